"""`datasets` folders and Hub names -> chunks, through the `datasets` library, which is imported only here and only when used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.reading.chunk import CHUNK_BYTES, CHUNK_ROWS, FIRST_ROWS, Chunk, counted

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_AT_ONCE = 1000
_MARKS = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` leaves in a folder."""


def is_hub_name(path: str | Path) -> bool:
    """Whether this could be "org/name" on the Hub: one slash, and no such folder on the disk."""
    return bool(_NAME.fullmatch(str(path))) and not Path(path).parent.exists()


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` made this folder."""
    return any((path / mark).is_file() for mark in _MARKS)


def dataset_chunks(
    path: str | Path, *, split: str | None = None, revision: str | None = None, config: str | None = None, look: bool = False
) -> Iterator[Chunk]:
    """Chunks of every split (or one) of a saved data set, a folder of data files or a Hub data set; rows count from 1 per split."""
    splits = _open(path, split, revision, config)
    if split is not None and split not in splits:
        raise UnknownName("split", split, splits, f" in {str(path)!r}")
    for name, dataset in splits.items():
        if split in (None, name):
            yield from _chunks(dataset, path, name or None, FIRST_ROWS if look else CHUNK_ROWS)


@contextmanager
def _said(path: str | Path) -> Iterator[None]:
    """What goes wrong in the library or on the network, as one sentence."""
    import datasets
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
        move = "check the folder" if Path(path).is_dir() else "check the name, the revision, the network and, for gated sets, HF_TOKEN"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise PrefdataError(f"the data set {str(path)!r} cannot be loaded ({reason}); {move}.") from error


def _open(path: str | Path, split: str | None, revision: str | None, config: str | None) -> Mapping[str, Any]:
    """Splits by name; a data set without splits has the one name ""."""
    import datasets

    with _said(path):
        if Path(path).is_dir() and is_saved(Path(path)):
            opened: Any = datasets.load_from_disk(str(path))
        else:
            opened = datasets.load_dataset(str(path), name=config, revision=revision, streaming=True)
    if isinstance(opened, Mapping):
        return {str(name): dataset for name, dataset in opened.items()}
    return {split or "": opened}


def _chunks(dataset: Any, path: str | Path, split: str | None, most: int) -> Iterator[Chunk]:
    first = 1
    for frame in _regroup(_frames(dataset, path, min(most, _AT_ONCE)), most):
        yield Chunk(f"{path}:{split}" if split else str(path), counted(first, frame.height), frame, split=split)
        first += frame.height


def _frames(dataset: Any, path: str | Path, rows: int) -> Iterator[pl.DataFrame]:
    with _said(path):
        for table in dataset.with_format("arrow").iter(batch_size=rows):
            yield pl.DataFrame(pl.from_arrow(table))


def _regroup(frames: Iterable[pl.DataFrame], most: int) -> Iterator[pl.DataFrame]:
    """Frames together, as many as a chunk holds."""
    held: list[pl.DataFrame] = []
    rows = size = 0
    for frame in frames:
        held.append(frame)
        rows, size = rows + frame.height, size + int(frame.estimated_size())
        if rows >= most or size >= CHUNK_BYTES:
            yield pl.concat(held)
            held, rows, size = [], 0, 0
    if rows:
        yield pl.concat(held)
