"""A path -> its chunks -> what they were taken for -> batches for the store. What every source does after opening its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch
from prefdata.core.reading.build import build
from prefdata.core.reading.chunk import Chunk
from prefdata.core.reading.columnar import csv_chunks, parquet_chunks
from prefdata.core.reading.fields import Fields
from prefdata.core.reading.hub import dataset_chunks, is_hub_name, is_saved
from prefdata.core.reading.shapes import SHAPES, Detected, detect_shape
from prefdata.core.reading.text import existing, json_chunks
from prefdata.core.rows import Reject

READERS: dict[str, Callable[..., Iterator[Chunk]]] = {
    ".jsonl": json_chunks,
    ".ndjson": json_chunks,
    ".json": json_chunks,
    ".parquet": parquet_chunks,
    ".csv": csv_chunks,
    ".tsv": csv_chunks,
}
PACKED = (".gz", ".zst")
_ENDINGS = f"{', '.join(READERS)}, also with .gz or .zst"
_NOT_DATA = ("dataset_infos.json", "dataset_info.json", "manifest.json", "config.json", "package.json")
_ORDER = ("prompts", "responses", "pairs", "annotations")
"""Files of one folder go in by what they hold: votes refer to pairs, so they come last."""


@dataclass(frozen=True)
class Reading:
    """How a user wants rows to be read; see the sources for what each means."""

    shape: str = "auto"
    columns: Mapping[str, str] | None = None
    source: str | None = None
    no_prompt: str | None = None


class Open(Protocol):
    """Opens one file or data set; `look` is for those who only want to see the first rows."""

    def __call__(self, *, look: bool = False) -> Iterator[Chunk]: ...


def batches(chunks: Iterator[Chunk], name: str, reading: Reading) -> Iterator[Batch]:
    """All rows of one file (or of the splits of one data set) as batches, in the shape of its first rows."""
    detected: Detected | None = None
    unread: list[Reject] = []
    for chunk in chunks:
        if not chunk.height and (detected is None or detected.file != chunk.file):
            unread += chunk.rejects
            continue
        if detected is None or detected.file != chunk.file:
            detected = detect_shape(chunk, reading.shape, reading.columns)
        yield from build(fields_of(chunk, detected, reading), detected.shape, detected.kind, unread)
        unread = []
    if detected is None:
        raise _nothing(name, unread)


def fields_of(chunk: Chunk, detected: Detected, reading: Reading) -> Fields:
    """The chunk seen through its file's shape; optional columns that turn up later in the file are taken up."""
    columns = {**SHAPES[detected.shape].find(chunk.names, detected.columns), **detected.columns}
    return Fields(chunk, columns, source=reading.source, no_prompt=reading.no_prompt)


def import_path(path: str | Path, reading: Reading) -> Iterator[Batch]:
    """A file by its ending, a folder file by file, a saved or Hub data set through `datasets`."""
    found = openers(path)
    if len(found) > 1:
        order = {name: _ORDER.index(detect_first(opener(look=True), name, reading).kind) for name, opener in found.items()}
        found = dict(sorted(found.items(), key=lambda entry: order[entry[0]]))
    for name, opener in found.items():
        yield from batches(opener(), name, reading)


def detect(path: str | Path, *, shape: str = "auto", columns: Mapping[str, str] | None = None) -> Detected:
    """What a file was taken for and why, from its first rows; of a folder or a data set, its first file or split."""
    return detect_all(path, shape=shape, columns=columns)[0]


def detect_all(path: str | Path, *, shape: str = "auto", columns: Mapping[str, str] | None = None) -> list[Detected]:
    """What each file of a folder was taken for."""
    return [detect_first(opener(look=True), name, Reading(shape, columns)) for name, opener in openers(path).items()]


def detect_first(chunks: Iterator[Chunk], name: str, reading: Reading) -> Detected:
    """The shape of the first chunk that has a readable row."""
    unread: list[Reject] = []
    for chunk in chunks:
        if chunk.height:
            return detect_shape(chunk, reading.shape, reading.columns)
        unread += chunk.rejects
    raise _nothing(name, unread)


def openers(path: str | Path) -> dict[str, Open]:
    """What is to be read, by name, each with the function that opens it."""
    if is_hub_name(path) and not _ending(Path(path)):
        return {str(path): partial(dataset_chunks, path)}
    path = existing(path)
    if path.is_file():
        return {str(path): _opener(path)}
    if is_saved(path):
        return {str(path): partial(dataset_chunks, path)}
    files = [file for file in sorted(path.rglob("*")) if _ending(file) and file.is_file() and _is_data(file.relative_to(path))]
    if not files:
        raise PrefdataError(f"the folder {str(path)!r} holds no data files; read are {_ENDINGS}.")
    return {str(file): _opener(file) for file in files}


def _is_data(file: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.parts)
    return not hidden and file.name not in _NOT_DATA and not file.name.endswith(".rejects.jsonl")


def _ending(path: Path) -> str:
    """The ending that says how a file is read, without .gz or .zst; "" where it is not known."""
    suffix = Path(path.stem).suffix if path.suffix in PACKED else path.suffix
    return suffix if suffix in READERS else ""


def _opener(path: Path) -> Open:
    ending = _ending(path)
    if not ending:
        raise PrefdataError(
            f"{str(path)!r} ends in {path.suffix or 'nothing'!r}; read are {_ENDINGS}. "
            "Rename the file, or name its source: jsonl, parquet or csv."
        )
    return partial(READERS[ending], path)


def _nothing(name: str, unread: list[Reject]) -> PrefdataError:
    if not unread:
        return PrefdataError(f"{name!r} holds no rows; check that it is the right file.")
    first = min(unread, key=lambda reject: reject.line)
    return PrefdataError(
        f"{name!r} holds no row that can be read ({len(unread):,} refused; line {first.line} {first.reason}); "
        "check that its ending says what it is."
    )
