"""The options that every command shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prefdata.core.store import Store


def remember_store(context: typer.Context, value: Path | None) -> Path | None:
    """`prefdata --store FILE run ...` means the same as `prefdata run ... --store FILE`; the one nearer to its end wins."""
    if value is not None:
        context.meta["prefdata.store"] = value
    found: Path | None = context.meta.get("prefdata.store")
    return found


def _remember_json(context: typer.Context, value: bool) -> bool:
    """An error must know how to speak, wherever it happens."""
    context.meta["prefdata.json"] = asked = bool(context.meta.get("prefdata.json")) or value
    return asked


StoreFile = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="The store to work on.",
        show_default="PREFDATA_STORE, else prefdata.duckdb",
        callback=remember_store,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, for machines.", callback=_remember_json)]


def open_store(path: Path | None, *, must_exist: bool = False) -> Store:
    """The store of a command; with `must_exist`, one that is not there is an error right away."""
    from prefdata.core.store import Store

    store = Store(path)
    if must_exist:
        with store.read():
            pass
    return store
