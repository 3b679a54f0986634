"""JSON Lines and JSON files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.core.ingest import Batch
from prefdata.core.method import method
from prefdata.core.reading import Reading, batches
from prefdata.core.reading.text import json_chunks


@method(version=1)
def jsonl(
    path: Path, *, shape: str = "auto", columns: dict[str, str] | None = None, source: str | None = None, no_prompt: str | None = None
) -> Iterator[Batch]:
    """JSON Lines (.jsonl, .ndjson) or a JSON array (.json), also as .gz or .zst.

    Texts are stored exactly as they are, an empty losing response too; a pair of two empty responses is refused. A row is
    named by its line, in a JSON array by its place. Lines over 50 MB are refused unread.

    Args:
        shape: what the rows are: auto looks at the first of them, or a shape's name such as preference or unpaired.
        columns: field -> the file's own name for it, such as {"prompt": "question"}.
        source: the name of the set, for rows that do not say.
        no_prompt: the prompt of rows that have none; such rows are refused where this is not given.
    """
    yield from batches(json_chunks(Path(path)), str(path), Reading(shape, columns, source, no_prompt))
