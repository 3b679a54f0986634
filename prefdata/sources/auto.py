"""Whatever lies at a path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.core.ingest import Batch
from prefdata.core.method import method
from prefdata.core.reading import Reading, import_path


@method(version=1)
def auto(
    path: str | Path, *, shape: str = "auto", columns: dict[str, str] | None = None, source: str | None = None, no_prompt: str | None = None
) -> Iterator[Batch]:
    """A file by its ending, every data file of a folder, a saved `datasets` folder or a Hub name; this is what `prefdata import` uses.

    The files of a folder go in by what they hold: prompts, responses, pairs, then votes, which refer to the others.

    Args:
        shape: what the rows are: auto looks at the first of each file, or a shape's name such as preference or unpaired.
        columns: field -> the file's own name for it, such as {"prompt": "question"}.
        source: the name of the set, for rows that do not say.
        no_prompt: the prompt of rows that have none; such rows are refused where this is not given.
    """
    yield from import_path(path, Reading(shape, columns, source, no_prompt))
