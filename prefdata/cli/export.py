"""`prefdata export`: what the filters kept, under the newest labels, as a folder that a trainer reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen
from prefdata.core.errors import BadValue, PrefdataError

if TYPE_CHECKING:
    from prefdata.core.columns import Keys
    from prefdata.core.store import Store


def _kinds(incomplete: str) -> list[str]:
    from prefdata.core import catalogue

    return [name for name in catalogue.shelf_methods("exports") if name.startswith(incomplete)]


def export(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="A method of the shelf exports, such as dpo.", autocompletion=_kinds)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    unfiltered: Annotated[bool, typer.Option("--unfiltered", help="Every labelled pair, whatever the filters said.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of the splits.", show_default="the filtering run's, else 0")] = None,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Write what was kept as a folder for a trainer.

    The newest labels, and the filters of the newest run that had any. Parameters of the method follow as --name=value;
    `prefdata methods exports KIND` lists them.

    Example:  prefdata export dpo --out out/dpo --test=0.05 --format=jsonl
    """
    from prefdata.cli.progress import watching
    from prefdata.core import recipe as recipes
    from prefdata.core.run import execute

    screen = Screen(json)
    opened = open_store(store)
    keys, chosen = _chosen(opened, unfiltered)
    recipe = recipes.parse(
        {
            "steps": [{"export": {kind: {**_parameters(context.args), "out": str(out)}}}],
            **{name: chosen[name] for name in ("only", "licences") if name in chosen},
            "seed": chosen.get("seed", 0) if seed is None else seed,
        }
    )
    with watching(screen) as progress:
        report = execute(opened, recipe, progress=progress, command=f"prefdata export {kind} --out {out}", keys=keys)
    (step,) = report.steps
    if json:
        facts = {"out": str(out), "kind": kind, "labels": keys.labels, "filters": keys.filters, "counts": _counts(out)}
        screen.data({**facts, "no_winner": step.detail["no_winner"], "there_already": step.had > 0})
        return
    screen.line(_filters_said(keys, unfiltered))
    counts = ", ".join(f"{count:,} {split}" for split, count in _counts(out).items()) or "no rows"
    was = "was there already, byte for byte" if step.had else "written"
    screen.line(
        f"{out}: {was}: {counts}" + (f"; {step.detail['no_winner']:,} pairs without a winner left out" if step.detail["no_winner"] else "")
    )
    screen.next(f"prefdata train {kind} {out} --model MODEL --out DIR" if kind == "dpo" else f"prefdata push {out} OWNER/NAME --dry-run")


def _chosen(store: Store, unfiltered: bool) -> tuple[Keys, dict[str, Any]]:
    """The newest labels and signals, and the filters, sources and seed of the newest run that filtered."""
    from prefdata.core import queries
    from prefdata.core.columns import Keys

    with store.read() as db:
        run = queries.filter_run(db)
    keys = Keys.newest(store)
    if keys.labels is None:
        raise PrefdataError("there are no labels to export; run a recipe with an aggregate step, such as  - aggregate: {majority: {}}")
    chosen = run["recipe"] if run else {}
    keys.sources = tuple(chosen.get("only") or ())
    if run and not unfiltered:
        keys.filters = [step["key"] for step in run["filters"]]
    return keys, chosen


def _parameters(extra: Sequence[str]) -> dict[str, Any]:
    """`--test=0.2`, `--test 0.2` or `test=0.2`; values are YAML."""
    import yaml

    found: dict[str, Any] = {}
    items = list(extra)
    while items:
        item = items.pop(0)
        name, equals, value = item.lstrip("-").partition("=")
        if not equals and item.startswith("--") and items and not items[0].startswith("--"):
            equals, value = "=", items.pop(0)
        if not equals or not name:
            raise BadValue("option", item, "--name=value, such as --test=0.2")
        try:
            found[name.replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadValue(f"--{name}", value, "a YAML value") from None
    return found


def _counts(out: Path) -> dict[str, int]:
    import json

    counts: dict[str, int] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["counts"]
    return counts


def _filters_said(keys: Keys, unfiltered: bool) -> str:
    if unfiltered:
        return f"labels {keys.labels}, no filter asked for"
    if not keys.filters:
        return f"labels {keys.labels}; no run has filtered yet, so every pair with a winner is in"
    return f"labels {keys.labels}, filters {', '.join(keys.filters)}"
