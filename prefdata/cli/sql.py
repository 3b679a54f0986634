"""`prefdata sql`: one question to the store, in SQL, that cannot change it or reach outside."""

from __future__ import annotations

import csv as csvs
import sys
from typing import Annotated, Any
from uuid import UUID

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, clean, cut

LIMIT, CELL = 50, 200


def sql(
    query: Annotated[str, typer.Argument(metavar="SELECT", help="One query; '-' reads it from stdin.")],
    limit: Annotated[int, typer.Option(min=1, help="Rows shown of a table; --csv and --json give all.")] = LIMIT,
    csv: Annotated[bool, typer.Option("--csv", help="All rows as CSV on stdout.")] = False,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Ask the store in SQL, read-only.

    SHOW TABLES and DESCRIBE pairs say what is there; pair_texts is a view made for reading.

    Example:  prefdata sql "SELECT source, count(*) FROM pairs GROUP BY ALL"
    """
    from prefdata.core.asking import ask

    screen = Screen(json)
    opened = open_store(store)
    text = sys.stdin.read() if query == "-" else query
    with opened.read() as db:
        names, rows = ask(db, text, None if csv or json else limit + 1)
    if json:
        screen.data([dict(zip(names, row, strict=True)) for row in rows])
    elif csv:
        _write_csv(names, rows)
    else:
        screen.table([[_cell(value) for value in row] for row in rows[:limit]], names)
        if len(rows) > limit:
            screen.note(f"the first {limit} rows; all of them: --csv, --json or a higher --limit", "yellow")
        screen.next("prefdata snapshot FILE   (a copy for your own DuckDB shell)")


def _cell(value: Any) -> Any:
    if isinstance(value, int | float | UUID | None):
        return value
    text = str(value)
    return text if text.startswith(("┌", "╭")) else cut(text, CELL)  # a drawn query plan is worth its lines


def _write_csv(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    harmless = sys.stdout.isatty()
    writer = csvs.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([clean(v) if harmless and isinstance(v, str) else v for v in row] for row in rows)
