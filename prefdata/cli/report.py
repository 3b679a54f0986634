"""`prefdata report`: one HTML page with plots about the store, the last run and what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, size


def report(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("report.html"),
    training: Annotated[list[Path] | None, typer.Option("--training", metavar="DIR", help="Also plot this training.")] = None,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Write a page with plots.

    The page is one file without scripts; it opens anywhere.

    Example:  prefdata report --out report.html --training out/policy
    """
    from prefdata.core import report as page

    screen = Screen(json)
    source = open_store(store, must_exist=True)
    out.write_text(page.build(source, training or []), encoding="utf-8")
    if json:
        screen.data({"store": str(source.path), "report": str(out), "bytes": out.stat().st_size})
        return
    screen.line(f"{out}: {size(out.stat().st_size)}, open it in a browser")
    screen.next("prefdata why PAIR   (ids: prefdata sql 'FROM pair_texts LIMIT 5')")
