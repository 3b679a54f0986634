"""Judge: how much of a response is quoted from a corpus; no model is asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.method import method
from prefdata.core.rows import Abstained, Response, Score

Hashes = npt.NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)
_LINES = (".jsonl", ".jsonl.gz", ".ndjson")


@method(version=1, subject="response", paper="QUIP score; Verifiable by Design (Quote-Tuning), arXiv:2404.03862")
def quote_overlap(response: Response, *, corpus: Path, field: str = "text", n: int = 25) -> Score | Abstained:
    """The share of a response's character n-grams that stand in a corpus, from 0 to 1; abstains where it is shorter than n.

    Text is taken in small letters, with every run of spaces and line breaks as one space. An n-gram of the corpus lies
    within one document. Every start in the response counts once, so that a passage that is said twice counts twice. The
    corpus is held in memory as 64-bit hashes: eight bytes for each of its characters, at most. How many n-grams were found stands in
    scores.found, their number in scores.ngrams.

    Args:
        corpus: the text to quote from: a .jsonl file (also .jsonl.gz) with a document a line, or any other file as one document.
        field: of a .jsonl line, with the document's text.
        n: characters of an n-gram.
    """
    if n < 1:
        raise BadValue("quote_overlap: n", n, "a whole number from 1")
    mine = ngrams(response.text, n)
    if not mine.size:
        return Abstained(f"the response is shorter than {n} characters")
    known = _index(corpus.resolve(), corpus.stat().st_mtime_ns, field, n)
    found = int((known[np.searchsorted(known[:-1], mine)] == mine).sum()) if known.size else 0
    return Score(found / mine.size, {"found": found, "ngrams": int(mine.size)}, f"{found} of {mine.size} {n}-grams stand in the corpus")


def ngrams(text: str, n: int) -> Hashes:
    """A 64-bit hash for the n-gram at each start of the normalised text; empty where the text is shorter than n."""
    codes = np.frombuffer(" ".join(text.casefold().split()).encode("utf-32-le", errors="replace"), dtype="<u4").astype(np.uint64)
    count = len(codes) - n + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    hashes = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            hashes = hashes * _BASE + codes[offset : offset + count] + np.uint64(1)
            hashes ^= hashes >> np.uint64(31)  # without it the low bits of the hash would see the last characters only
    return hashes


@lru_cache(maxsize=4)
def _index(path: Path, changed: int, field: str, n: int) -> Hashes:
    """The sorted hashes of all n-grams of a corpus; `changed` tells versions of the file apart."""
    parts: list[Hashes] = []
    waiting = 0
    for text in _documents(path, field):
        parts.append(ngrams(text, n))
        waiting += len(parts[-1])
        if waiting > 20_000_000:  # repeated passages need no room while the rest is read
            parts, waiting = [np.unique(np.concatenate(parts))], 0
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)


def _documents(path: Path, field: str) -> Iterator[str]:
    try:
        if not path.name.endswith(_LINES):
            yield path.read_text(encoding="utf-8")
            return
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _text(line, field, f"{path.name}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdataError(f"the corpus {str(path)!r} cannot be read: {error}.") from None


def _text(line: str, field: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise PrefdataError(f"{where}: there is no text under {field!r}; say which field has it with  field: NAME.")
    return text
