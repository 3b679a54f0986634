"""`prefdata import`: files, folders and Hub data sets into the store, every refused row by line and reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, cut
from prefdata.core.errors import BadValue, PrefdataError

if TYPE_CHECKING:
    from prefdata.core.ingest import Counts
    from prefdata.core.store import Store

SHOWN = 10
_ORDER = ("prompts", "responses", "pairs", "annotations")
"""Votes refer to pairs and pairs to prompts: of several paths, those come in first that others may refer to."""


@dataclass
class Imported:
    """One path: what it was taken for and what became of its rows."""

    path: str
    shapes: list[str]
    why: str
    kind: str
    counts: Counts | None = None
    rejects_file: str | None = None

    def as_dict(self) -> dict[str, Any]:
        counts = self.counts
        assert counts is not None
        return {
            "path": self.path, "shape": self.shapes[0] if len(self.shapes) == 1 else self.shapes, "kind": self.kind, "why": self.why,
            "read": counts.read, "stored": counts.stored, "known": counts.known, "refused": len(counts.rejects), "new": counts.added,
            "rejects_file": self.rejects_file, "first_refused": [_reject(r) for r in counts.rejects[:SHOWN]],
        }  # fmt: skip


@dataclass
class _Totals:
    done: list[Imported] = field(default_factory=list)

    @property
    def went_in(self) -> int:
        return sum(one.counts.stored + one.counts.known for one in self.done if one.counts)


def import_(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files (.jsonl, .json, .csv, .tsv, .parquet, also .gz and .zst), folders, Hub names."),
    ],
    shape: Annotated[str | None, typer.Option(help="What the rows are, where that is guessed wrongly.", show_default="guessed")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="The source's name in the store.", show_default="from the rows or the file")
    ] = None,
    columns: Annotated[list[str] | None, typer.Option(metavar="FIELD=COLUMN", help="The file's name for a field; may be repeated.")] = None,
    no_prompt: Annotated[
        str | None, typer.Option("--no-prompt", metavar="TEXT", help="What to use as the prompt of rows that have none.")
    ] = None,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Import prompts, responses, pairs and votes.

    The shape of the rows is guessed and said. A row that cannot be read is refused with line, field and reason, and kept in a
    file beside the store; the rest goes in. Importing the same rows twice adds nothing.

    Example:  prefdata import votes.csv --source crowd --columns prompt=question --columns chosen=better
    """
    from prefdata.core import catalogue

    screen = Screen(json)
    opened = open_store(store)
    given = {"shape": shape, "source": source, "columns": _named(columns), "no_prompt": no_prompt}
    options = catalogue.find("sources", "auto").bind({name: value for name, value in given.items() if value is not None})
    totals = _Totals()
    for one in _detected(paths, options):
        _import_one(opened, one, options, screen)
        totals.done.append(one)
        if not json:
            _show(one, screen)
    if json:
        screen.data({"store": str(opened.path), "files": [one.as_dict() for one in totals.done]})
    if not totals.went_in:
        if json:
            raise typer.Exit(2)
        raise PrefdataError(
            "no row went in: every row was refused for the reason above; mend the file, or name its columns with --columns FIELD=COLUMN."
        )
    screen.next("prefdata status")


def _named(columns: Sequence[str] | None) -> dict[str, str] | None:
    """`prompt=question chosen=better`, given once or several times, also comma separated."""
    if not columns:
        return None
    found = {}
    for item in (part for given in columns for part in given.split(",")):
        name, equals, column = item.partition("=")
        if not equals or not name or not column:
            raise BadValue("--columns", item, "FIELD=COLUMN, such as prompt=question")
        found[name.strip()] = column.strip()
    return found


def _detected(paths: Sequence[str], options: dict[str, Any]) -> list[Imported]:
    """What each path is taken for, in the order of import; a path that cannot be read stops all, before any is stored."""
    from prefdata.core.reading.files import detect_all

    found = []
    for path in paths:
        entries = detect_all(_path(path), shape=options.get("shape") or "auto", columns=options.get("columns"))
        shapes = list(dict.fromkeys(entry.shape for entry in entries))
        found.append(Imported(path, shapes, entries[0].why, entries[0].kind))
    return sorted(found, key=lambda one: _ORDER.index(one.kind) if one.kind in _ORDER else len(_ORDER))


def _path(path: str) -> Any:
    return Path(path) if Path(path).exists() else path


def _import_one(store: Store, one: Imported, options: dict[str, Any], screen: Screen) -> None:
    from prefdata.cli.progress import watching
    from prefdata.core import catalogue
    from prefdata.core.ingest import Counts, ingest
    from prefdata.core.rejects import write_rejects

    counts = one.counts = Counts()
    with watching(screen) as progress:
        progress.start(f"import {one.path}", 0)

        def watched() -> Iterator[Any]:
            for batch in catalogue.find("sources", "auto").load()(_path(one.path), **options):
                yield batch
                progress.advance(done=batch.frame.height, failed=len(batch.rejects))

        ingest(store, watched(), counts)
    counts.rejects.sort(key=lambda reject: (reject.file, reject.line))
    written = write_rejects(store, Path(one.path), counts.rejects)
    one.rejects_file = str(written) if written else None


def _show(one: Imported, screen: Screen) -> None:
    counts = one.counts
    assert counts is not None
    screen.line(f"{one.path}: {', '.join(one.shapes)}", "bold")
    screen.line(f"  {one.why}")
    screen.line(f"  {counts.read:,} rows read: {counts.stored:,} stored, {counts.known:,} known before, {len(counts.rejects):,} refused")
    new = ", ".join(f"{name} {count:,}" for name, count in counts.added.items() if count and name != "items")
    screen.line(f"  new: {new or 'nothing'}")
    if counts.rejects:
        shown = [_reject(r) for r in counts.rejects[:SHOWN]]
        rest = f"; the first {SHOWN}" if len(counts.rejects) > SHOWN else ""
        screen.line(f"  refused rows are in {one.rejects_file}{rest}:")
        several = len({r["file"] for r in shown}) > 1
        screen.table(
            [([r["file"]] if several else []) + [r["line"], r["field"], r["reason"]] for r in shown],
            [*(["file"] if several else []), "line", "field", "reason"],
        )


def _reject(reject: Any) -> dict[str, Any]:
    return {"file": reject.file, "line": reject.line, "field": reject.field, "reason": cut(reject.reason, 300)}
