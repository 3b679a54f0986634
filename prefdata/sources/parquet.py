"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.core.ingest import Batch
from prefdata.core.method import method
from prefdata.core.reading import Reading, batches
from prefdata.core.reading.columnar import parquet_chunks


@method(version=1)
def parquet(
    path: Path, *, shape: str = "auto", columns: dict[str, str] | None = None, source: str | None = None, no_prompt: str | None = None
) -> Iterator[Batch]:
    """A Parquet file; plain columns and regular message lists are read without a step row by row.

    Texts are stored exactly as they are, an empty losing response too; a pair of two empty responses is refused. A row is
    named by its number in the file. Binary columns that no field uses are left out.

    Args:
        shape: what the rows are: auto looks at the first of them, or a shape's name such as preference or unpaired.
        columns: field -> the file's own name for it, such as {"prompt": "question"}.
        source: the name of the set, for rows that do not say.
        no_prompt: the prompt of rows that have none; such rows are refused where this is not given.
    """
    yield from batches(parquet_chunks(Path(path)), str(path), Reading(shape, columns, source, no_prompt))
