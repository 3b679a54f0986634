"""`prefdata snapshot`: a copy of the store for one's own shell, made while nobody writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, size


def snapshot(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file to make.")],
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Copy the store for your own DuckDB shell.

    The copy is whole, whatever runs meanwhile, and may be held open for as long as you like.

    Example:  prefdata snapshot today.duckdb
    """
    screen = Screen(json)
    source = open_store(store)
    source.snapshot(target)
    if json:
        screen.data({"store": str(source.path), "snapshot": str(target), "bytes": target.stat().st_size})
        return
    screen.line(f"{target}: a copy of {source.path}, {size(target.stat().st_size)}")
    screen.next(f"duckdb {target}   (or: prefdata sql 'SHOW TABLES' --store {target})")
