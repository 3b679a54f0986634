"""`prefdata route` and `prefdata simulate`: who answers next under a budget, and what routing would have gained on a known set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, cut, money

if TYPE_CHECKING:
    from prefdata.core.outlook import Costs, Gain, Outlook
    from prefdata.core.replay import Replayed

SHOWN = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the pairs in the table of a simulation, where it has them."""
ROUTERS = ("hybrid_route", "disagreement", "uncertainty", "similar_to_errors", "k_center", "borda_interval", "thompson")


def route(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ROUTER] [KEY=VALUE]...", help="A method of the shelf acquire and its parameters.", show_default="hybrid_route"
        ),
    ] = None,
    budget_human: Annotated[float, typer.Option("--budget-human", metavar="MINUTES", min=0, help="People's time.")] = 0.0,
    budget_usd: Annotated[float, typer.Option("--budget-usd", metavar="USD", min=0, help="Dollars for AI labels.")] = 0.0,
    seconds: Annotated[
        float | None, typer.Option("--seconds-per-label", metavar="S", help="Of a person's time.", show_default="as timed in the store")
    ] = None,
    usd: Annotated[
        float | None, typer.Option("--usd-per-label", metavar="USD", help="Of an AI label.", show_default="as paid in the store")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would go where and the expected gain; queue nothing.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Choose who answers what, within a budget.

    Fills the queue of `prefdata label` with the pairs that gain most, and says what to expect of it and how that was estimated.

    Example:  prefdata route --budget-human 300 --budget-usd 20 --plan
    """
    from prefdata.core.errors import PrefdataError
    from prefdata.core.outlook import measured, outlook
    from prefdata.library import run

    screen = Screen(json)
    if not budget_human and not budget_usd:
        raise PrefdataError("a routing needs a budget: give --budget-human MINUTES, --budget-usd USD, or both.")
    opened = open_store(store, must_exist=True)
    router, params = _parsed(words or [])
    costs = measured(opened)
    found = outlook(opened, router, params, _budget(costs, budget_human, budget_usd, seconds, usd), seed)
    again = [
        *(words or []),
        *_options({"budget-human": budget_human, "budget-usd": budget_usd, "seconds-per-label": seconds, "usd-per-label": usd}),
    ]
    again += _options({"seed": seed})
    command = shlex.join(["prefdata", "route", *again])
    if not plan:
        run({"steps": [{"acquire": {router: dict(found.params)}}], "seed": seed}, opened, command=command)
    if json:
        screen.data({"store": str(opened.path), "planned": plan, "costs": asdict(costs), **asdict(found)})
        return
    _show_outlook(found, costs, screen, {"seconds": seconds, "usd": usd, "dollars": budget_usd})
    screen.next(command if plan else "prefdata label" if found.to_human else "prefdata status")


def _parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """ROUTER and KEY=VALUE, the router first or not at all; values are YAML."""
    import yaml

    from prefdata.core.errors import BadValue

    router = words[0] if words and "=" not in words[0] else ""
    params = {}
    for word in words[1:] if router else words:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadValue("a parameter", word, "KEY=VALUE, such as least=50", "The router stands first.")
        params[name] = yaml.safe_load(text)
    return router or "hybrid_route", params


def _budget(costs: Costs, minutes: float, dollars: float, seconds: float | None, usd: float | None) -> Any:
    from prefdata.core.errors import PrefdataError
    from prefdata.core.hybrid import Budget

    each = usd if usd is not None else costs.usd_each
    if dollars and not each:
        raise PrefdataError("nobody has paid for a judgement in this store, so say what an AI label costs: --usd-per-label USD.")
    if seconds is not None:
        return Budget(minutes, dollars, seconds, 0.0, each or 0.0)
    return Budget(minutes, dollars, costs.seconds, costs.seconds_per_1000_chars, each or 0.0)


def _options(given: Mapping[str, Any]) -> list[str]:
    """Those that were given, as words of a command."""
    return [word for name, value in given.items() if value for word in (f"--{name}", f"{value:g}")]


def _show_outlook(found: Outlook, costs: Costs, screen: Screen, given: Mapping[str, Any]) -> None:
    rows = [
        ("people", found.to_human, round(found.minutes, 1), None, _gain(found.gain_human)),
        ("the AI", found.to_llm, None, money(found.usd), _gain(found.gain_llm)),
        ("stays as it is", found.pool - found.to_human - found.to_llm, None, None, None),
    ]
    screen.table(rows, ("goes to", "pairs", "minutes", "dollars", "right labels gained, 95 % interval"))
    if found.gain and found.by_chance and found.right_now is not None:
        screen.line(f"expected gain: {_gain(found.gain)} right labels; pairs drawn by chance for the same budget: {_gain(found.by_chance)}")
        after = (found.right_now + found.gain.mean) / max(found.pool, 1)
        screen.line(f"expected right now: {found.right_now / max(found.pool, 1):.1%} of {found.pool:,} pairs; then: {after:.1%}")
    else:
        screen.line("expected gain: unknown")
    screen.line(f"how: {found.how}")
    if given["seconds"] is None:
        screen.line(costs.how[0])
    if given["usd"] is None and given["dollars"]:
        screen.line(costs.how[1])
    if found.predicted is not None and found.bound is not None and found.predicted < 0.99 * found.bound:
        screen.line(f"the set is within {1 - found.predicted / found.bound:.1%} of the best there could be for these budgets")
    screen.line()
    if found.first:
        listed = [(row["pair_id"][:8], row["send_to"], row["priority"], cut(row["reason"] or "", 160)) for row in found.first]
        screen.table(listed, ("pair", "goes to", "priority", "because"), title="first in the queue")


def _gain(gain: Gain | None) -> str:
    return f"{gain.mean:,.1f} [{gain.low:,.1f}, {gain.high:,.1f}]" if gain else "unknown"


def simulate(
    routers: Annotated[
        list[str] | None, typer.Argument(metavar="[ROUTER]...", help="Methods of the shelf acquire.", show_default="all that need no model")
    ] = None,
    ai: Annotated[
        list[str] | None,
        typer.Option("--ai", metavar="WHO", help="Annotator or kind that gives the AI's label.", show_default="every machine"),
    ] = None,
    people: Annotated[
        list[str] | None,
        typer.Option(
            "--people", metavar="WHO", help="Whose votes are people's; with a minus before it, whose are not.", show_default="every person"
        ),
    ] = None,
    human: Annotated[
        Literal["all", "one"], typer.Option(help="A person's label: all votes of the pair, or one against the others.")
    ] = "all",
    ties: Annotated[Literal["count", "drop"], typer.Option(help="Pairs that people call a tie.")] = "count",
    upto: Annotated[float, typer.Option(help="The largest budget, as a share of the pairs.")] = 0.5,
    step: Annotated[float, typer.Option(help="The router is asked again after this share.")] = 0.05,
    seeds: Annotated[int, typer.Option(help="Replays of each router.")] = 20,
    resample: Annotated[Literal["pair", "prompt"], typer.Option(help="What the intervals draw.")] = "pair",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.svg", help="The picture to write.")] = Path("routing.svg"),
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Replay routing on a set with labels by people and an AI.

    Each router buys people's labels for the pairs it asks for; the table and the picture show the share of right labels
    against the budget, and the lead over buying at random, with 95 % intervals.

    Example:  prefdata simulate hybrid_route disagreement --ai gpt-4 --out routing.svg
    """
    from prefdata.core.replay import Setting, picture, replay

    screen = Screen(json)
    opened = open_store(store, must_exist=True)
    setting = Setting(routers or ROUTERS, ai or (), people or (), human, ties, upto, step, seeds, resample)

    def watch(router: str, number: int) -> None:
        if not number and not json:
            screen.note(f"replaying {router}")

    found = replay(opened, setting, seed, watch)
    out.write_text(picture(found), encoding="utf-8")
    if json:
        screen.data({"store": str(opened.path), "picture": str(out), "setting": asdict(setting), **asdict(found)})
        return
    _show_replay(found, setting.human, screen)
    screen.line(f"{out}: open it in a browser")
    screen.next(f"prefdata route {found.curves[0].router} --budget-human MINUTES --plan")


def _show_replay(found: Replayed, human: str, screen: Screen) -> None:
    known = (
        f"one vote of a person agrees with the others on {found.human_accuracy:.1%}" if human == "one" else "people's labels count as right"
    )
    screen.line(f"{found.pairs:,} pairs of {found.prompts:,} prompts; the AI's label is right on {found.ai_accuracy:.1%}, {known}")
    places = [number for number, share in enumerate(found.shares) if any(abs(share - shown) < 1e-9 for shown in SHOWN)]
    places = places or list(range(1, len(found.shares)))[:: max(1, len(found.shares) // 5)]
    columns = ["router", *(f"{found.shares[place]:.0%}" for place in places)]
    rows = [(c.router, *(_percent(c.accuracy[p], c.low[p], c.high[p]) for p in places)) for c in found.curves]
    screen.table(rows, columns, title="right labels, in percent, when people label this share of the pairs")
    rows = [(c.router, *(_points(c.lead[p], c.lead_low[p], c.lead_high[p]) for p in places), _points(*(c.mean_lead or ())))
            for c in found.curves if c.router != "random"]  # fmt: skip
    screen.table(rows, [*columns, "mean, 10 to 50 %"], title="lead over random, in percentage points")
    for router, why in found.skipped.items():
        screen.note(f"{router} was left out: {cut(why, 200)}", "yellow")


def _percent(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _points(*ends: float) -> str:
    """Mean, low and high, with their signs; nothing for none."""
    if not ends:
        return ""
    mean, low, high = (f"{100 * end:+.1f}" for end in ends)
    return f"{mean} [{low}, {high}]"
