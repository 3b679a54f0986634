"""`prefdata status`: what is in the store, how it came there, and what failed."""

from __future__ import annotations

from typing import Any

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.run import reasons
from prefdata.cli.show import Screen, cut, money, size


def status(store: StoreFile = None, json: AsJson = False) -> None:
    """Show what is in the store.

    Counts, sources, judges, labels, signals, the filters' funnel, failures by reason, spend, runs, exports and trainings.

    Example:  prefdata status --store prefdata.duckdb
    """
    from prefdata.core import queries

    screen = Screen(json)
    opened = open_store(store)
    with opened.read() as db:
        found = queries.overview(db)
    if json:
        screen.data({"store": str(opened.path), **found})
        return
    screen.line(f"{opened.path}, {size(opened.path.stat().st_size)}", "bold")
    screen.facts({name: count for name, count in found["tables"].items() if count} or {"empty": "nothing is in it yet"})
    screen.line()
    _show_content(found, screen)
    _show_history(found, screen)
    screen.next(_next(found))


def _show_content(found: dict[str, Any], screen: Screen) -> None:
    _table(screen, "sources", found["sources"][:20])
    _table(screen, "who judged", found["annotators"])
    _table(screen, "machine judges", [{**_without(row, "key"), "cost": money(row["cost"])} for row in found["judges"]])
    _table(screen, "labels (newest first)", [_without(row, "method", "used") for row in found["labels"]])
    _table(screen, "signals", [_without(row, "key") for row in found["signals"]])
    funnel = [{**_without(row, "key"), "dropped": reasons(row["dropped"])} for row in found["funnel"]]
    _table(screen, "filters of the newest run that had any", funnel)
    _table(screen, "asked to answer next", found["waiting"])


def _show_history(found: dict[str, Any], screen: Screen) -> None:
    _table(screen, "abstained and failed, by reason", [{**row, "reason": cut(row["reason"] or "", 160)} for row in found["failures"]])
    _table(screen, "spend", [{**row, "cost": money(row["cost"] or 0) or "$0"} for row in found["spend"]])
    runs = [
        {"run": str(r["id"])[:8], "state": r["state"], "started": _moment(r["started"]), "seconds": r["seconds"], "command": r["command"]}
        for r in found["runs"]
    ]
    _table(screen, "last runs", runs)
    _table(screen, "exports", [{**row, "created": _moment(row["created"])} for row in found["exports"]])
    _table(screen, "trainings", [{**_without(row, "metrics"), "created": _moment(row["created"])} for row in found["trainings"]])


def _table(screen: Screen, title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        screen.table(rows, title=title)


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _moment(time: Any) -> str:
    """UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _next(found: dict[str, Any]) -> str:
    """The first thing the store still lacks."""
    tables = found["tables"]
    if not tables["prompts"]:
        return "prefdata import FILE"
    if not tables["pairs"]:
        return "prefdata run RECIPE   (with a pairing step; examples: prefdata init)"
    if not tables["annotations"]:
        return "prefdata label"
    if not tables["labels"]:
        return "prefdata run RECIPE   (with an aggregate step; see: prefdata methods aggregate)"
    if not tables["exports"]:
        return "prefdata export dpo --out out/dpo"
    return "prefdata why PAIR   (ids: prefdata sql 'FROM pair_texts LIMIT 5')"
