"""`prefdata audit`: know a data set, whether it is a file or a store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from prefdata.cli.options import AsJson
from prefdata.cli.show import Screen
from prefdata.core.errors import PrefdataError

DEFAULT = ("summary",)


def audit(
    target: Annotated[str, typer.Argument(metavar="FILE-OR-STORE", help="A store, or anything that `prefdata import` reads.")],
    of: Annotated[
        list[str] | None, typer.Option("--of", metavar="AUDIT", help="Which audits; may be repeated.", show_default=", ".join(DEFAULT))
    ] = None,
    json: AsJson = False,
) -> None:
    """Report on a data set: a store or a file.

    A file is read into a temporary store and yours stays as it is. `prefdata methods audits` lists what can be asked.

    Example:  prefdata audit votes.jsonl
    """
    from prefdata.core import catalogue

    screen = Screen(json)
    audits = [catalogue.find("audits", name) for name in of or DEFAULT]
    with _opened(target, screen) as store, store.read() as db:
        reports = {method.name: method.load()(db, **method.bind({})) for method in audits}
    if json:
        screen.data({"target": target, "audits": reports})
        return
    for name, report in reports.items():
        show_report(report, screen, name if len(reports) > 1 else "")
    screen.next("prefdata status" if _is_store(Path(target)) else f"prefdata import {target}")


@contextmanager
def _opened(target: str, screen: Screen) -> Iterator[Any]:
    """The store itself, or a temporary one that the file was imported into."""
    from prefdata.core import catalogue
    from prefdata.core.ingest import Counts, ingest
    from prefdata.core.store import Store

    path = Path(target)
    if _is_store(path):
        yield Store(path)
        return
    with tempfile.TemporaryDirectory(prefix="prefdata-audit-") as folder:
        store = Store(Path(folder) / "audit.duckdb")
        source = catalogue.find("sources", "auto")
        counts: Counts = ingest(store, source.load()(path if path.exists() else target, **source.bind({})))
        if not counts.stored:
            first = next((f" (the first, line {r.line}: {r.field} {r.reason})" for r in counts.rejects), "")
            raise PrefdataError(f"no row of {target!r} went in{first}, so there is nothing to report on.")
        if counts.rejects and not screen.json:
            screen.note(
                f"{len(counts.rejects):,} of {counts.read:,} rows were refused and are not in this report; prefdata import names them.",
                "yellow",
            )
        yield store


def _is_store(path: Path) -> bool:
    """A DuckDB file says so in its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(12)[8:] == b"DUCK"
    except OSError:
        return False


def show_report(report: Any, screen: Screen, title: str = "") -> None:
    """Tables as tables, numbers as lines, whatever the audit called them."""
    if title:
        screen.line(title, "bold underline")
    facts = {
        name.replace("_", " "): value
        for name, value in report.items()
        if not isinstance(value, list | tuple | Mapping) and not hasattr(value, "iter_rows")
    }
    if facts:
        screen.facts(facts)
        screen.line()
    for name, value in report.items():
        heading = name.replace("_", " ")
        if hasattr(value, "iter_rows"):
            value = value.to_dicts()
        if isinstance(value, Mapping):
            screen.facts(value, heading)
            screen.line()
        elif isinstance(value, list | tuple) and value:
            if isinstance(value[0], Mapping):
                screen.table(value, title=heading)
            else:
                screen.line(heading, "bold")
                for line in value:
                    screen.line(f"  {line}")
                screen.line()
