"""CSV and TSV files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.core.ingest import Batch
from prefdata.core.method import method
from prefdata.core.reading import Reading, batches
from prefdata.core.reading.columnar import csv_chunks


@method(version=1)
def csv(
    path: Path,
    *,
    shape: str = "auto",
    columns: dict[str, str] | None = None,
    source: str | None = None,
    no_prompt: str | None = None,
    delimiter: str = "auto",
) -> Iterator[Batch]:
    """A CSV or TSV file with a header line, also as .gz or .zst; lists may stand in it as JSON text.

    Texts are stored exactly as they are. CSV has no null: an empty cell is an empty response, and elsewhere nothing. A
    record is named by the line it starts on; one with more or fewer fields than the header is refused.

    Args:
        shape: what the rows are: auto looks at the first of them, or a shape's name such as preference or unpaired.
        columns: field -> the file's own name for it, such as {"prompt": "question"}.
        source: the name of the set, for rows that do not say.
        no_prompt: the prompt of rows that have none; such rows are refused where this is not given.
        delimiter: auto goes by the header; or comma, semicolon, tab, pipe, or one character.
    """
    yield from batches(csv_chunks(Path(path), delimiter=delimiter), str(path), Reading(shape, columns, source, no_prompt))
