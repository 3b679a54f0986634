"""Parquet and CSV -> chunks with typed columns. Parquet goes row group by row group, CSV record by record."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.reading.chunk import CHUNK_BYTES, CHUNK_ROWS, FIRST_ROWS, SNIPPET, TEXT_BYTES, Chunk, counted
from prefdata.core.reading.text import MAX_LINE, bounded_lines, existing, open_bytes
from prefdata.core.rows import Reject

_WHOLE_GROUP = 384 * 2**20
"""Uncompressed bytes of a Parquet row group up to which it is decoded at once."""
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def parquet_chunks(path: Path, *, look: bool = False) -> Iterator[Chunk]:
    """Chunks of a Parquet file; `line` is the row's number in the file, from 1. `look`: the first rows only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if existing(path).is_dir():
        raise PrefdataError(f"{str(path)!r} is a folder; give a file, or import the folder with the source auto.")
    try:
        with pq.ParquetFile(path) as file:
            groups = [(g.num_rows, g.total_byte_size) for g in map(file.metadata.row_group, range(file.metadata.num_row_groups))]
        first = 1
        for frame in [pl.scan_parquet(path).head(FIRST_ROWS).collect()] if look else _parquet_frames(path, groups):
            yield Chunk(str(path), counted(first, frame.height), frame)
            first += frame.height
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0][:200]
        raise PrefdataError(f"{str(path)!r} cannot be read as Parquet ({reason}); check that the file is whole.") from None


def _parquet_frames(path: Path, groups: list[tuple[int, int]]) -> Iterator[pl.DataFrame]:
    if max((size for _, size in groups), default=0) > _WHOLE_GROUP:
        yield from _streamed(path, sum(rows for rows, _ in groups), sum(size for _, size in groups))
        return
    offset = 0
    for rows, size in groups:
        yield from pl.scan_parquet(path).slice(offset, rows).collect().iter_slices(_rows_at_once(rows, size))
        offset += rows


def _streamed(path: Path, rows: int, size: int) -> Iterator[pl.DataFrame]:
    """Row groups too large to decode at once: page by page, slower but within bounds."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_rows_at_once(rows, size)):
            yield pl.DataFrame(pl.from_arrow(batch))


def _rows_at_once(rows: int, size: int) -> int:
    """Rows of even pieces, as few as the bounds of a chunk allow."""
    pieces = max(-(-size // CHUNK_BYTES), -(-rows // CHUNK_ROWS), 1)
    return max(1, -(-rows // pieces))


def csv_chunks(path: Path, *, delimiter: str = "auto", look: bool = False, limit: int = MAX_LINE) -> Iterator[Chunk]:
    """Chunks of a CSV file with a header; all columns are text. `line` is where a record starts."""
    file = str(path)
    rejects: list[Reject] = []
    with open_bytes(path) as stream:
        source = _Decoded(stream, rejects, file, limit)
        header_line = next(source, "")
        if not header_line.strip():
            return
        separator = _delimiter(delimiter, header_line, path)
        csv.field_size_limit(limit)
        names = next(csv.reader([header_line], delimiter=separator))
        if len(set(names)) < len(names):
            raise PrefdataError(f"{file!r} names a column twice in its header ({', '.join(names)}); rename one of them.")
        yield from _csv_collect(csv.reader(source, delimiter=separator), source, names, rejects, FIRST_ROWS if look else CHUNK_ROWS)


class _Decoded:
    """The lines of a CSV file as text, with the numbers of those that are not UTF-8 or too long."""

    def __init__(self, stream: object, rejects: list[Reject], file: str, limit: int) -> None:
        self.lines = bounded_lines(stream, rejects, file, limit)  # type: ignore[arg-type]
        self.file, self.limit, self.number, self.bad = file, limit, 0, ""
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number, self.size = line.number, self.size + line.size
        data = line.data.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.data
        if line.size > self.limit:
            self.bad = f"is {line.size:,} bytes long; the longest line that is read has {self.limit:,}"
            return data.decode("utf-8", "replace") + "\n"
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            self.bad = f"is not valid UTF-8 at byte {error.start + 1}"
            return data.decode("utf-8", "replace")


def _csv_collect(records: Iterator[list[str]], source: _Decoded, names: list[str], rejects: list[Reject], most: int) -> Iterator[Chunk]:
    rows: list[list[str]] = []
    lines: list[int] = []
    while True:
        line, source.bad = source.number + 1, ""
        try:
            record = next(records, None)
            reason = source.bad
        except csv.Error as error:
            record, reason = [], f"is not readable CSV: {error}"
        if record is None:
            break
        if record and not reason and len(record) != len(names):
            reason = f"has {len(record)} fields where the header has {len(names)}"
            if source.number > line:
                reason += f"; the record runs on to line {source.number}, so a quote may never have been closed"
        if reason:
            rejects.append(Reject(source.file, line, "", reason, ",".join(record)[:SNIPPET]))
        elif record:
            rows.append(record)
            lines.append(line)
        if len(rows) + len(rejects) >= most or source.size >= TEXT_BYTES:
            yield _csv_chunk(source.file, names, rows, lines, rejects)
            rows, lines, source.size = [], [], 0
            rejects.clear()
    if rows or rejects:
        yield _csv_chunk(source.file, names, rows, lines, rejects)


def _csv_chunk(file: str, names: list[str], rows: list[list[str]], lines: list[int], rejects: list[Reject]) -> Chunk:
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    frame = pl.DataFrame({name: pl.Series(values, dtype=pl.String) for name, values in zip(names, columns, strict=True)})
    raw = [",".join(row)[:SNIPPET] for row in rows]
    return Chunk(file, pl.Series(lines, dtype=pl.Int64), frame, raw=raw, rejects=tuple(rejects), no_null=True)


def _delimiter(given: str, header: str, path: Path) -> str:
    if given == "auto":
        if ".tsv" in path.suffixes:
            return "\t"
        return max(DELIMITERS.values(), key=header.count)
    if given in DELIMITERS:
        return DELIMITERS[given]
    if len(given) == 1 and given not in '"\r\n':
        return given
    raise BadValue("delimiter", given, f"auto, {', '.join(DELIMITERS)} or one character")
