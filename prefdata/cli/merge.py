"""`prefdata merge`: one model out of several that were trained from one base."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from prefdata.cli.options import AsJson
from prefdata.cli.show import Screen
from prefdata.cli.train import parameters, progress_on
from prefdata.core.errors import PrefdataError


def merge(
    method: Annotated[str, typer.Argument(help="expo, paft or preference_vector.")],
    model: Annotated[
        list[str],
        typer.Option(metavar="ROLE=MODEL", help="A model's role and its folder or Hub name, such as sft=DIR; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the merged model.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method, such as alpha=0.5; repeatable.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Combine the weights of trained models, without training.

    expo goes beyond a tuned model (roles sft, tuned), paft merges parallel fine-tunings (base, sft, tuned), preference_vector
    adds what a preference changed (base, tuned, swapped). LoRA adapters are folded into their base.

    Example:  prefdata merge expo --model sft=my-sft --model tuned=out/policy --out out/expo --set alpha=0.5
    """
    from prefdata.train import merge as run

    roles = {}
    for given in model:
        role, equals, place = given.partition("=")
        if not equals or not role or not place:
            raise PrefdataError(f"--model {given!r} is not ROLE=MODEL; write it as in --model sft=DIR.")
        roles[role] = place
    screen = Screen(json)
    with progress_on(screen) as show:
        result = run(method, roles, out, parameters(set_ or [], None), show)
    if json:
        screen.data({**vars(result), "out": str(result.out)})
        return
    screen.table(list(result.norms.items()), ("model", "distance from the first"))
    screen.line(f"{result.tensors} weights merged by {result.method}: {result.out}")
    screen.next(shlex.join(["prefdata", "run", "RECIPE.yaml", f"models.policy.path={result.out}"]))
