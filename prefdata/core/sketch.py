"""Texts as short vectors: hashed words and word pairs, weighed by how rare they are in the pool.

A cheap stand-in for an embedding: two texts are close where they share rare words. Nothing is learned and nothing is
downloaded; meaning beyond the words themselves is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core import shingles
from prefdata.core.shingles import Hashed

Floats: TypeAlias = npt.NDArray[np.float32]

Made = TypeVar("Made")

WIDTH = 256
_ROWS = 20_000
_COSINES = 1 << 26
"""Cosines that are looked at at once."""
_COPY = 1e-4
"""Texts this near to each other are copies."""
_last: dict[str, tuple[bytes, Any]] = {}


def sketch(texts: pl.Series, width: int = WIDTH) -> Floats:
    """One vector of length 1 per text (0 for a text without words): (texts, width).

    Words and pairs of neighbouring words are hashed to `width` places with a sign each (Weinberger et al. 2009); a place
    counts log(1 + |sum|) times log((1 + texts) / (1 + texts that have it)) + 1.

    Args:
        texts: null is an empty text.
        width: places; a power of two.
    """
    cut = shingles.column(texts)
    found = np.zeros((len(texts), width), dtype=np.float32)
    for low in range(0, len(texts), _ROWS):
        found[low : low + _ROWS] = _placed(cut.take(np.arange(low, min(low + _ROWS, len(texts)))), width)
    having = np.count_nonzero(found, axis=0)
    np.copysign(np.log1p(np.abs(found)), found, out=found)
    found *= (np.log((1 + len(texts)) / (1 + having)) + 1).astype(np.float32)
    return unit(found)


def of_pairs(rows: pl.DataFrame) -> Floats:
    """The sum of the sketches of prompt, a_text and b_text, of length 1, per pair; the sides' order does not count."""
    texts = rows.select("prompt", "a_text", "b_text")
    return once("pairs", texts, lambda: unit(sketch(texts["prompt"]) + sketch(texts["a_text"]) + sketch(texts["b_text"])))


def once(what: str, texts: pl.DataFrame, make: Callable[[], Made]) -> Made:
    """What `make` gives; the last pool's result is kept, for whoever asks for the same texts again, as a replay does."""
    seen = sha256(texts.hash_rows(0x5EED).to_numpy().tobytes()).digest()
    if _last.get(what, (b"",))[0] != seen:
        _last[what] = (seen, make())
    made: Made = _last[what][1]
    return made


def unit(vectors: Floats) -> Floats:
    """Rows of length 1; rows of zeros stay."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    made: Floats = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return made


def likeness(left: Floats, right: Floats) -> npt.NDArray[np.float64]:
    """Cosine of rows that stand side by side; their vectors have length 1."""
    made: npt.NDArray[np.float64] = np.einsum("ij,ij->i", left, right).astype(np.float64)
    return made


def nearest(vectors: Floats, to: Floats, most: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The `most` rows of `vectors` nearest to each row of `to`, the nearest first: places and cosines, (to, most)."""
    most = min(most, len(vectors))
    places = np.zeros((len(to), most), dtype=np.int64)
    cosines = np.zeros((len(to), most), dtype=np.float32)
    step = max(1, _COSINES // max(len(vectors), 1))
    for low in range(0, len(to) if most else 0, step):
        close = to[low : low + step] @ vectors.T
        best = np.argpartition(-close, most - 1, axis=1)[:, :most] if most < close.shape[1] else np.argsort(-close, axis=1)
        found = np.take_along_axis(close, best, axis=1)
        order = np.lexsort((best, -found), axis=1)
        places[low : low + step] = np.take_along_axis(best, order, axis=1)
        cosines[low : low + step] = np.take_along_axis(found, order, axis=1)
    return places, cosines


def farthest(vectors: Floats, close: Floats, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Greedy k-center: again and again the row farthest from all centres, which then is a centre, too.

    Args:
        vectors: rows of length 1.
        close: the cosine of each row to its nearest centre so far; -1 everywhere where there is none yet, and the first row
            is then the one nearest to the mean, at distance 2.
        most: at most so many rows; it ends before that where only copies of centres are left.

    Returns:
        Places in the order of choice, and 1 less the cosine to the nearest centre at that moment.
    """
    close = close.copy()
    picked: list[int] = []
    far: list[float] = []
    for _ in range(min(most, len(vectors))):
        place = int((vectors @ vectors.mean(axis=0)).argmax()) if (close <= -1).all() else int(close.argmin())
        if 1 - close[place] < _COPY:
            break
        picked.append(place)
        far.append(float(1 - close[place]))
        close = np.maximum(close, vectors @ vectors[place])
        close[place] = 1
    return np.array(picked, dtype=np.int64), np.array(far)


def _placed(cut: Hashed, width: int) -> npt.NDArray[Any]:
    """Signed counts of words and word pairs, (texts, width)."""
    counts = np.zeros(len(cut) * width)
    for grams in (cut, shingles.ngrams(cut, 2)):
        mixed = shingles.mixed(grams.hashes.astype(np.uint64))
        place = (mixed % np.uint64(width)).astype(np.int64)
        sign = np.where(mixed >> np.uint64(63), -1.0, 1.0)
        counts += np.bincount(grams.owners * width + place, weights=sign, minlength=len(counts))
    return counts.reshape(len(cut), width)
