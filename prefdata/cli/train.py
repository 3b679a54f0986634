"""`prefdata train`: a model from an export."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen
from prefdata.core.errors import PrefdataError

if TYPE_CHECKING:
    from prefdata.core.store import Store
    from prefdata.train import Event, TrainConfig, TrainResult

_HOUSEKEEPING = ("step", "split", "epoch", "rows", "tokens", "seconds", "tokens_per_s", "lr", "grad_norm")


def train(
    objective: Annotated[
        str,
        typer.Argument(
            help='A loss (dpo, simpo, ...; `prefdata methods losses`), a sum ("dpo + 0.2*sft"), or a reward head (reward, ...).'
        ),
    ],
    export: Annotated[
        Path, typer.Argument(help="A folder that `prefdata export` wrote, or a .jsonl or .parquet file with prompt, chosen, rejected.")
    ],
    model: Annotated[str, typer.Option(help="Model to start from: a folder in Hugging Face format, or a Hub name.")],
    out: Annotated[Path, typer.Option(help="New folder for the trained model.")],
    epochs: Annotated[float, typer.Option(help="Passes over the training pairs.")] = 1.0,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps, in place of epochs.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate. [default: 1e-6 for policies, 1e-5 for reward, x10 with --lora]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pairs per optimiser step.")] = 32,
    micro_batch: Annotated[int, typer.Option(help="Pairs computed at once; lower needs less memory and changes no result.")] = 8,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the loss or head: beta=0.05, attributes=[tone,truth]; repeatable."),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Short for --set beta=VALUE.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of prompt plus response. [default: the model's context]")] = None,
    truncation: Annotated[
        Literal["refuse", "keep_start", "keep_end"],
        typer.Option(help="Longer pairs: drop and count them, cut the responses' ends, or cut the prompt's start."),
    ] = "refuse",
    use: Annotated[
        list[str] | None, typer.Option(help="A label column to train on besides the choice: margin, p or tie; repeatable.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A column to leave unread: weight or ref; repeatable.")] = None,
    order: Annotated[Literal["shuffled", "as_given"], typer.Option(help="as_given keeps the export's order (a curriculum).")] = "shuffled",
    seed: Annotated[int, typer.Option(help="Decides the order of pairs and a new reward head's start.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Number format of the computation.")] = "auto",
    schedule: Annotated[Literal["cosine", "linear", "constant"], typer.Option(help="Learning rate after the warm-up.")] = "cosine",
    warmup_ratio: Annotated[float, typer.Option(help="Share of the steps that warm up.")] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="AdamW's, on matrices.")] = 0.0,
    lora: Annotated[int | None, typer.Option(metavar="RANK", help="Train a LoRA adapter of this rank instead of all weights.")] = None,
    frozen: Annotated[
        Literal["layers", "embedding"] | None,
        typer.Option(help="Reward models: leave the model as it is, train a head on its states of all layers or on its embedding."),
    ] = None,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, about a third slower.")] = False,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between measurements on held-out pairs. [default: about five a run]")
    ] = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints. [default: about ten a run]")] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder of reference log-probs that runs may share. [default: inside --out]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out; starts it where there is none.")] = False,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Train a policy or a reward model on an export.

    The finished run becomes a row of the store's table `trainings`, where a store is given or lies in its usual place.

    Example:  prefdata train dpo out/dpo --model sample_data/tiny-lm --out out/policy --epochs 2 --lr 1e-4
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from prefdata.train import train as run

    screen, config = Screen(given["json"]), _config(given)
    with stop_on_signal(screen) as stopping, progress_on(screen) as show:
        result = run(
            given["objective"],
            given["export"],
            given["model"],
            given["out"],
            config,
            show,
            lambda: stopping[0],
            _known(given["store"]),
        )
    if given["json"]:
        screen.data({**vars(result), "out": str(result.out)})
    else:
        report(result, screen)
    screen.next(shlex.join(_use(result)))


def _use(result: TrainResult) -> list[str]:
    """A recipe takes models that give one number a text; how to read the others stands in their card."""
    if (result.out / "head.json").exists():
        return ["cat", str(result.out / "README.md")]
    return ["prefdata", "run", "RECIPE.yaml", f"models.{result.kind}.path={result.out}"]


def _known(given: Path | None) -> Store | None:
    """The store that was named (it must be there), else the one in the usual place, if there is one."""
    opened = open_store(given, must_exist=given is not None)
    return opened if opened.exists else None


def _config(given: Mapping[str, Any]) -> TrainConfig:
    """The command's options, by name, as the library's settings."""
    from dataclasses import fields

    from prefdata.train import TrainConfig

    settings = {f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
    columns = {name: tuple(given[name] or ()) for name in ("use", "ignore")}
    return TrainConfig(**{**settings, **columns, "params": parameters(given["set_"] or [], given["beta"])})


def parameters(pairs: Sequence[str], beta: float | None) -> dict[str, Any]:
    """`beta=0.1` texts as values; a number reads as a number, true and false as such, `[a, b]` as a list of such values."""
    found: dict[str, Any] = {} if beta is None else {"beta": beta}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise PrefdataError(f"--set {pair!r} is not KEY=VALUE; write it as in --set beta=0.05.")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return [_value(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.lower(), text)


@contextmanager
def stop_on_signal(screen: Screen) -> Iterator[list[bool]]:
    """The first Ctrl-C (or SIGTERM) asks the run to stop after its step; a second Ctrl-C ends it at once."""
    stopping = [False]

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping[0]:
            raise KeyboardInterrupt
        stopping[0] = True
        screen.note("stopping after this step, with a checkpoint (Ctrl-C again: at once, without)", style="yellow")

    earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def progress_on(screen: Screen) -> Iterator[Callable[[Event], None]]:
    """A function that shows events on stderr: a live bar on a terminal, plain lines elsewhere, nothing beside JSON."""
    if screen.json or not screen.err.is_terminal:
        yield (lambda event: None) if screen.json else (lambda event: _plain(event, screen))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=screen.err, transient=True) as bar:
        task = bar.add_task("starting", total=None, figures="")

        def show(event: Event) -> None:
            if event.kind in ("note", "eval"):
                screen.note(_text(event))
            elif event.kind == "phase":
                bar.update(task, description=event.text, completed=event.done, total=event.total)
            elif event.kind == "step":
                bar.update(task, description="training", completed=event.done, total=event.total, figures=_figures(event.values, 3))

        yield show


def _plain(event: Event, screen: Screen) -> None:
    """Progress where nobody watches: notes, measurements and about twenty steps of a run."""
    often = event.kind == "step" and event.done % max(1, event.total // 20) == 0
    if event.kind in ("note", "eval") or often or (event.kind == "phase" and event.done == event.total):
        screen.note(_text(event))


def _text(event: Event) -> str:
    if event.kind in ("step", "eval"):
        name = "training" if event.kind == "step" else event.text
        return f"step {event.done}/{event.total}  {name}: {_figures(event.values)}"
    return f"{event.text}: {event.total}" if event.kind == "phase" else f"note: {event.text}"


def _figures(values: Mapping[str, Any], most: int = 99) -> str:
    names = ("loss", "accuracy", "margin", "chosen_shift", "rejected_shift", "chosen_reward", "rejected_reward", "tokens_per_s")
    there = [name for name in names if values.get(name) is not None]
    return "  ".join(f"{name} {round(values[name], 5) + 0.0:.4g}" for name in there[:most])


def report(result: TrainResult, screen: Screen) -> None:
    """What came out."""
    if result.already:
        screen.line("This run had finished before; nothing was computed.")
    where = next((name for name in result.rows if name != "train"), None)
    held = f"held-out {result.unit} ({where})"
    title = f"{result.objective}, on {result.rows[where]} {held}" if where else f"{result.objective}, on training {result.unit}"
    names = [name for name in result.metrics if name not in _HOUSEKEEPING]
    screen.table([(name, _cell(result.start.get(name)), _cell(result.metrics[name])) for name in names], ("", "before", "after"), title)
    dropped = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items()) or "none"
    screen.line(f"{result.steps} steps on {result.rows['train']} {result.unit}; left out: {dropped}.")
    screen.line(f"Model, card, metrics and picture: {result.out}")


def _cell(value: float | None) -> float | None:
    """Four digits after the point, and no negative zero."""
    return None if value is None else round(value, 4) + 0.0
