"""`prefdata judges`: what the machine judges are worth, in one table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, cut, money

WIDEST = 36
"""Characters of a judge's name."""
_LEGEND = (
    "ab, ba: share that is the gold label where a, or b, was shown first; right: the mean of both, or of all verdicts where no "
    "order is known. agree: the same choice in both orders; flips: a in one and b in the other; first: the side named is the "
    "one shown first. After a share stands its 95 % interval."
)


def judges(
    gold: Annotated[
        str,
        typer.Option(
            metavar="ANNOTATOR",
            help="Whose label is right: an annotator's id or kind; gold: labels of people or gold that came with pairs.",
        ),
    ] = "gold",
    by: Annotated[Literal["subset", "source"] | None, typer.Option(help="A table for each part of the imported data.")] = None,
    unreadable: Annotated[
        Literal["leave_out", "wrong", "tie"],
        typer.Option(help="What a reply that nobody could read counts as, in the shares that are right."),
    ] = "leave_out",
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Compare the machine judges.

    How often each is right, with the responses in either order; how far it follows the order; ties, unreadable replies, cost.

    Example:  prefdata judges --gold human --by subset
    """
    from prefdata.core.judged import judge_figures

    screen = Screen(json)
    found = judge_figures(open_store(store), gold=gold, by=by, unreadable=unreadable)
    if json:
        screen.data(found)
        return
    if not found:
        screen.line("no machine has judged a pair of this store")
        screen.next("prefdata run RECIPE   (with a judge step; see: prefdata methods judges)")
        return
    has_gold = any(row["accuracy"]["verdict"] for row in found)
    costs = any(row["cost"] for row in found)
    for part in dict.fromkeys(row[by] for row in found) if by else [None]:
        rows = [_cells(row, has_gold, costs) for row in found if by is None or row[by] == part]
        screen.table(rows, title=f"{by} {part}" if part else f"no {by}" if by else "")
    screen.line(_LEGEND, "dim")
    if not has_gold:
        screen.note("no gold label stands beside these verdicts: name whose label is right with --gold ANNOTATOR", "yellow")
    screen.next("prefdata judges --by subset" if by is None else "prefdata judges --json   (every figure, and who said what)")


def _cells(row: dict[str, Any], has_gold: bool, costs: bool) -> dict[str, Any]:
    """One line of the table; without gold labels nothing is right or wrong."""
    accuracy = row["accuracy"]
    right: dict[str, Any] = {}
    if has_gold:
        one = accuracy["mean"] or accuracy["verdict"] or {}
        orders = {name: _share((accuracy[name] or {}).get("share")) for name in ("ab", "ba")}
        right = {**orders, "right": _share(one.get("share"), one.get("interval"))}
    return {
        "judge": cut(row["judge"], WIDEST),
        "verdicts": row["verdicts"],
        **right,
        "agree": _share(row["agreement"]),
        "flips": _share(row["flip_rate"], row["flip_interval"]),
        "first": _share(row["first_share"], row["first_interval"]),
        "ties": row["ties"],
        "unread": row["failed"],
        **({"cost": money(row["cost"])} if costs else {}),
    }


def _share(share: float | None, interval: tuple[float, float] | None = None) -> str:
    if share is None:
        return ""
    return f"{share:.3f}" + (f" {interval[0]:.2f}-{interval[1]:.2f}" if interval else "")
