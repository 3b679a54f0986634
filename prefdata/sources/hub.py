"""Data sets of the `datasets` library and of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.core.ingest import Batch
from prefdata.core.method import method
from prefdata.core.reading import Reading, batches
from prefdata.core.reading.hub import dataset_chunks, is_hub_name


@method(version=1)
def hub(
    path: str | Path,
    *,
    split: str | None = None,
    revision: str | None = None,
    config: str | None = None,
    shape: str = "auto",
    columns: dict[str, str] | None = None,
    source: str | None = None,
    no_prompt: str | None = None,
) -> Iterator[Batch]:
    """A Hub data set "org/name" (streamed), a folder made by `save_to_disk`, or a folder of data files read by `datasets`.

    The split becomes the subset of rows that name none. For a folder of JSON Lines with dirty rows use `auto`: it refuses
    them line by line where `datasets` stops or guesses types. For gated sets, HF_TOKEN in the environment is used.

    Args:
        split: one split, such as train; None reads all.
        revision: branch, tag or commit on the Hub.
        config: the configuration (subset) of a Hub data set.
        shape: what the rows are: auto looks at the first of them, or a shape's name such as preference or unpaired.
        columns: field -> the set's own name for it, such as {"prompt": "question"}.
        source: the name of the set, for rows that do not say; None takes the Hub name.
        no_prompt: the prompt of rows that have none; such rows are refused where this is not given.
    """
    name = source or (str(path) if is_hub_name(path) else None)
    chunks = dataset_chunks(path, split=split, revision=revision, config=config)
    yield from batches(chunks, str(path), Reading(shape, columns, name, no_prompt))
