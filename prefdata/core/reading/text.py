"""Text files -> chunks of JSON objects: streams, bounded lines, JSON Lines and JSON arrays.

Nothing here knows what a row means. A row that cannot be read is refused with its line; the rest goes on.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl

from prefdata.core.errors import PrefdataError, nearest
from prefdata.core.reading.chunk import CHUNK_ROWS, FIRST_ROWS, SNIPPET, TEXT_BYTES, Chunk
from prefdata.core.rows import Reject

MAX_LINE = 50 * 2**20
"""Bytes of the longest line (or JSON value) that is read; longer ones are refused without being held in memory."""
_LOST = "nothing after this was read"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, OSError)


class _Unpacked(io.RawIOBase):
    """Bytes of a packed stream as they come, so that nothing before a break is lost."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Line(NamedTuple):
    """One physical line; where `size` is over the limit, `data` is only its beginning."""

    number: int
    data: bytes
    size: int


def existing(path: str | Path) -> Path:
    """The path, if there is something; else an error that offers what lies beside it."""
    path = Path(path)
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise PrefdataError(f"there is no file {str(path)!r}, not even its folder; check the path.")
    near = nearest(path.name, [entry.name for entry in folder.iterdir()])
    raise PrefdataError(f"there is no file {str(path)!r}; {f'did you mean {str(folder / near)!r}?' if near else 'check the path.'}")


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where the name ends in .gz or .zst."""
    if existing(path).is_dir():
        raise PrefdataError(f"{str(path)!r} is a folder; give a file, or import the folder with the source auto.")
    try:
        if path.suffix == ".gz":
            return io.BufferedReader(_Unpacked(gzip.open(path).read1), 2**20)
        if path.suffix == ".zst":
            import pyarrow as pa

            packed = pa.CompressedInputStream(str(path), "zstd")
            return io.BufferedReader(_Unpacked(lambda size: packed.read(min(size, 2**16))), 2**20)
        return path.open("rb", buffering=2**20)
    except OSError as error:
        raise PrefdataError(f"{str(path)!r} cannot be read ({error.strerror or error}); check its permissions.") from None


def bounded_lines(stream: BinaryIO, rejects: list[Reject], file: str, limit: int = MAX_LINE) -> Iterator[Line]:
    """The lines of a stream; an over-long one is skipped to its end in small steps. Broken compression ends the file."""
    number = 0
    try:
        while data := stream.readline(limit + 1):
            number += 1
            size = len(data)
            if size <= limit or data.endswith(b"\n"):
                yield Line(number, data, size)
                continue
            data = data[:SNIPPET]
            while more := stream.readline(2**20):
                size += len(more)
                if more.endswith(b"\n"):
                    break
            yield Line(number, data, size)
    except _BROKEN as error:
        if not number:
            raise PrefdataError(f"{file!r} cannot be unpacked ({error}); check that the file is whole and its ending right.") from None
        rejects.append(Reject(file, number + 1, "", f"the file breaks off here ({error}); {_LOST}"))


def json_chunks(path: Path, *, look: bool = False, limit: int = MAX_LINE) -> Iterator[Chunk]:
    """Chunks of a .jsonl/.ndjson file, or of a .json file that holds an array, single values or lines.

    Args:
        look: small chunks, for those who only want to see the first rows.
        limit: bytes of the longest line or value.
    """
    with open_bytes(path) as stream:
        whole = any(suffix == ".json" for suffix in path.suffixes[-2:]) and not _is_lines(path)
        pieces = (_values if whole else _lines)(stream, str(path), limit)
        yield from _collect(pieces, str(path), FIRST_ROWS if look else CHUNK_ROWS)


class Read(NamedTuple):
    """What became of one piece of the file: an object with its line and beginning, or a refusal."""

    row: dict[str, Any] | None
    line: int
    raw: str
    size: int
    reject: Reject | None = None


def _collect(pieces: Iterator[Read], file: str, most: int) -> Iterator[Chunk]:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    raw: list[str] = []
    rejects: list[Reject] = []
    size = 0
    for piece in pieces:
        size += piece.size
        if piece.row is not None:
            rows.append(piece.row)
            lines.append(piece.line)
            raw.append(piece.raw)
        elif piece.reject:
            rejects.append(piece.reject)
        if len(rows) + len(rejects) >= most or size >= TEXT_BYTES:
            yield Chunk(file, pl.Series(lines, dtype=pl.Int64), rows=rows, raw=raw, rejects=rejects)
            rows, lines, raw, rejects, size = [], [], [], [], 0
    if rows or rejects:
        yield Chunk(file, pl.Series(lines, dtype=pl.Int64), rows=rows, raw=raw, rejects=rejects)


def _lines(stream: BinaryIO, file: str, limit: int) -> Iterator[Read]:
    broken: list[Reject] = []
    for number, data, size in bounded_lines(stream, broken, file, limit):
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        if size > limit:
            reason = f"is {size:,} bytes long; the longest line that is read has {limit:,}"
            yield _refused(file, number, reason, data.decode("utf-8", "replace"))
        elif data.strip():
            yield _line(data, number, file)
    for reject in broken:
        yield Read(None, reject.line, "", 0, reject)


def _line(data: bytes, number: int, file: str) -> Read:
    try:
        text = data.decode("utf-8").rstrip("\r\n")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        return _refused(file, number, f"is not valid UTF-8 at byte {error.start + 1}", data.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        return _refused(file, number, f"is not readable JSON at column {error.colno}: {error.msg}", text)
    except (RecursionError, ValueError) as error:
        return _refused(file, number, f"is not readable JSON: {error}", text)
    return _object(value, file, number, text, encodable=True)


def _values(stream: BinaryIO, file: str, limit: int) -> Iterator[Read]:
    """The elements of a JSON array, or JSON values one after the other; counted from 1, since they may share a line."""
    text, position, number, done, closed = "", 0, 0, False, True
    between = " \t\r\n"
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    while True:
        while position < len(text) and text[position] in between:
            closed = closed or text[position] == "]"
            position += 1
        if position < len(text):
            if number == 0 and text[position] == "[" and "," not in between:
                position, between, closed = position + 1, between + ",]", False
                continue
            try:
                value, end = _DECODER.raw_decode(text, position)
                if end < len(text) or done:
                    number += 1
                    yield _object(value, file, number, text[position:end])
                    position = end
                    continue
            except (RecursionError, ValueError) as error:
                if done or len(text) - position > limit:
                    yield _refused(file, number + 1, f"is not readable JSON ({error}); {_LOST}", text[position : position + SNIPPET])
                    return
        if done:
            if not closed:
                yield _refused(file, number + 1, "is missing: the array is never closed, so the file may be cut off", "")
            return
        text, position = text[position:], 0
        try:
            data = stream.read(max(2**20, len(text)))
        except _BROKEN as error:
            yield _refused(file, number + 1, f"the file breaks off here ({error}); {_LOST}", "")
            return
        done = not data
        text += decoder.decode(data, final=done)


def _is_lines(path: Path) -> bool:
    """Whether a .json file is really JSON Lines: its first line is a whole object and another line follows."""
    with open_bytes(path) as stream:
        try:
            first = stream.readline(MAX_LINE) if stream.peek(64).lstrip()[:1] == b"{" else b""  # type: ignore[attr-defined]
            return bool(stream.read(1)) and isinstance(_DECODER.decode(first.decode("utf-8-sig")), dict)
        except (*_BROKEN, RecursionError, ValueError):
            return False


def _object(value: Any, file: str, line: int, text: str, *, encodable: bool = False) -> Read:
    if not isinstance(value, dict):
        return _refused(file, line, f"is {describe(value)}, not a JSON object", text)
    if "\\ud" in text or "\\uD" in text or not (encodable or _storable(text)):
        for name, part in value.items():
            if not (_storable(name) and _storable(part)):
                return _refused(file, line, "holds a lone surrogate or invalid UTF-8, which cannot be stored as text", text, name)
    return Read(value, line, text[:SNIPPET], len(text))


def _storable(value: Any) -> bool:
    try:
        (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:
        return True  # refused where it is written
    return True


def _refused(file: str, line: int, reason: str, text: str, field: str = "") -> Read:
    shown, field = (part.encode("utf-8", "replace").decode() for part in (text[:SNIPPET].rstrip("\r\n"), field))
    return Read(None, line, "", len(text), Reject(file, line, field, reason, shown))


def describe(value: Any) -> str:
    """A value as an error names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value!r}"[:40]
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, list | tuple | pl.Series):
        return "a list" if len(value) else "an empty list"
    return "an object" if isinstance(value, dict) else f"{type(value).__name__} {str(value)[:40]}"


def _constant(word: str) -> float | None:
    """NaN means no number; the infinities stay, to be refused where a number is read."""
    return None if word == "NaN" else float(word.replace("Infinity", "inf"))


_DECODER = json.JSONDecoder(parse_constant=_constant)
