"""`prefdata run`: a recipe on the store; running it again computes what is missing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, clean, money

if TYPE_CHECKING:
    from prefdata.core.run import Report, StepReport


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to use instead of the recipe's.", show_default=False)
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Count rows, calls and cost; compute nothing.")] = False,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", min=0, help="Stop before paid calls cost more than this (exit code 3).")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask models again instead of using stored replies.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try rows once more that failed.")] = False,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Run a recipe, or what is missing of it.

    What is in the store already is not computed again, so the same command resumes after Ctrl-C or a crash.

    Example:  prefdata run pipelines/best_of_n.yaml strategy.sample_n.n=8 --budget 5
    """
    from prefdata.cli.progress import watching
    from prefdata.library import run as run_recipe

    screen = Screen(json)
    opened = open_store(store)
    options: dict[str, Any] = {"overrides": overrides or [], "budget": budget, "use_cache": not no_cache, "retry_failed": retry_failed}
    if plan:
        report = run_recipe(recipe, opened, plan=True, **options)
        if not opened.exists:
            screen.note(f"there is no store at {opened.path} yet: small files were read into a temporary one to count them.")
    else:
        with watching(screen) as progress:
            report = run_recipe(recipe, opened, progress=progress, command=_command(recipe, overrides or []), **options)
    if json:
        screen.data({**report.as_dict(), "store": str(opened.path)})
    elif plan:
        _show_plan(report, screen)
        screen.next(_command(recipe, overrides or []))
    else:
        _show_report(report, screen)
        screen.next(_next(report))


def _command(recipe: Path, overrides: list[str]) -> str:
    return shlex.join(["prefdata", "run", str(recipe), *overrides])


def _show_plan(report: Report, screen: Screen) -> None:
    columns = ("step", "rows in", "already there", "missing", "calls", "cost expected", "")
    costs = [s.detail.get("cost") or money(s.cost) for s in report.steps]
    reads = [f"reads {s.detail['reads']}" if "reads" in s.detail else "" for s in report.steps]
    counts = [(s.step, s.rows_in, s.had, s.missing, s.calls) for s in report.steps]
    screen.table([(*row, *more) for row, *more in zip(counts, costs, reads, strict=True)], columns)
    cost, calls = sum(s.cost for s in report.steps), sum(s.calls or 0 for s in report.steps)
    screen.line(f"{calls:,} calls, {money(cost) or '$0'} expected" if calls else "no paid calls")
    if any(s.missing or "reads" in s.detail for s in report.steps[:-1]):
        screen.note("each step counts what is there now; what earlier steps will read or make is not counted.")


def _show_report(report: Report, screen: Screen) -> None:
    columns = ("step", "rows in", "already there", "done", "abstained", "failed", "seconds", "cost", "")
    screen.table(
        [(s.step, s.rows_in, s.had, s.done, s.abstained, s.failed, round(s.seconds, 2), money(s.cost), _detail(s)) for s in report.steps],
        columns,
    )
    filters = [s for s in report.steps if "kept" in s.detail]
    if filters:
        screen.table(
            [(s.step.removeprefix("filter "), s.rows_in, s.detail["kept"], reasons(s.detail["dropped"])) for s in filters],
            ("filter", "met", "kept", "dropped"),
        )
    for step in report.steps:
        if step.detail.get("rejects"):
            screen.note(f"{step.step}: refused rows are in {step.detail['rejects']}", "yellow")


def reasons(dropped: dict[str, int]) -> str:
    """too_similar 12, tie 3."""
    return ", ".join(f"{clean(reason)} {count:,}" for reason, count in dropped.items())


def _detail(step: StepReport) -> str:
    """The one thing worth a cell: where an export went, how many a filter kept, what a source added."""
    detail = step.detail
    if "out" in detail:
        return str(detail["out"])
    if "kept" in detail:
        return f"kept {detail['kept']:,}"
    counts = {name: count for name, count in detail.items() if isinstance(count, int) and count and name != "items"}
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def _next(report: Report) -> str:
    if any(step.failed and step.step.startswith(("judge", "strategy")) for step in report.steps):
        return "prefdata status   (why rows failed), then the same command with --retry-failed"
    written = {step.step: step.detail["out"] for step in report.steps if step.step.startswith("export") and "out" in step.detail}
    if "export dpo" in written:
        return f"prefdata train dpo {written['export dpo']} --model MODEL --out DIR"
    if any(step.step.startswith("acquire") for step in report.steps):
        return "prefdata label"
    labelled = any(step.step.startswith("aggregate") for step in report.steps)
    return "prefdata export dpo --out out/dpo" if labelled and not written else "prefdata status"
