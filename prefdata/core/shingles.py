"""Words of many texts as 64-bit hashes in one numpy array, and the n-grams made of them.

A word is a run of letters, digits and underscores, lower-cased; a character of a script that is written without spaces
(Chinese, Japanese, Thai, ...) and an emoji are a word each; punctuation is none. Nothing loops over texts: the bytes of a
whole column are cut at once, about 150,000 texts of 700 bytes a second and core.

Hashes are the same on every machine and in every version of this file, and they are no secret: do not take them for
identities of untrusted text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
AnyHashes = npt.NDArray[np.unsignedinteger[Any]]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Made = TypeVar("Made")

BLOCK_BYTES = 1 << 20
"""Texts are cut in blocks of about this size: what one block needs stays near the processor."""
BLOCK_TEXTS = 1 << 14
CHUNK = 4 << 20
"""Hashes that are sorted at once where sets are compared."""
_LONGEST = 8
"""Of a longer word, only the first and last 8 * 8 bytes and the length are told apart."""
_SPREAD = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53],
    dtype=np.uint64,
)


@dataclass(frozen=True)
class Hashed:
    """Hashes of many texts in one array, of 64 or 32 bits: those of text i are `hashes[starts[i]:starts[i + 1]]`."""

    hashes: AnyHashes
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Ints:
        return np.diff(self.starts)

    @property
    def owners(self) -> Ints:
        """The text that each hash belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def take(self, texts: Ints) -> Hashed:
        """The hashes of these texts, in this order."""
        counts = self.counts[texts]
        starts = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(starts[-1]) + np.repeat(self.starts[texts] - starts[:-1], counts)
        return Hashed(self.hashes[places], starts)

    def where(self, which: Flags) -> Hashed:
        """Only the hashes for which `which` holds, each still with its text."""
        until = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(which)])
        return Hashed(self.hashes[which], until[self.starts])

    def joined(self, parts: int) -> Hashed:
        """Every `parts` neighbouring texts as one."""
        return Hashed(self.hashes, self.starts[::parts])

    def upper(self) -> Hashed:
        """The upper 32 bits of each hash: enough to tell the members of two sets apart, in half the memory."""
        return self if self.hashes.dtype == np.uint32 else Hashed((self.hashes >> np.uint64(32)).astype(np.uint32), self.starts)


def mixed(hashes: Hashes) -> Hashes:
    """The finaliser of SplitMix64: every bit depends on every bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _SPREAD[1]
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _SPREAD[2]
    return hashes ^ (hashes >> np.uint64(31))


def utf8(texts: pl.Series, spare: int = 0) -> tuple[Bytes, Ints]:
    """The bytes of all texts, one after the other and `spare` zeros behind, and where each text starts; null is empty."""
    packed = texts.fill_null("").to_arrow().cast(pa.large_string())
    offsets = np.frombuffer(packed.buffers()[1], dtype=np.int64)[packed.offset : packed.offset + len(packed) + 1]
    starts: Ints = offsets - offsets[0]
    data = np.zeros(starts[-1] + spare, dtype=np.uint8)
    if starts[-1]:
        data[: starts[-1]] = np.frombuffer(packed.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data, starts


def words(texts: pl.Series) -> Hashed:
    """The words of each text, in order; null has none."""
    data, starts = utf8(texts.str.to_lowercase(), 8)  # eight more, so that a window never ends outside
    first, end = _edges(data, starts)
    return Hashed(_hash_words(data, first, end), np.searchsorted(first, starts))


def column(texts: pl.Series) -> Hashed:
    """`words` of a long column, on all cores."""
    return concatenated(in_threads(words, texts))


def _edges(data: Bytes, begins: Ints) -> tuple[Ints, Ints]:
    """Where each word starts, and the byte after its last."""
    used = data[:-7]
    word = (used - np.uint8(97) < 26) | (used - np.uint8(48) < 10) | (used == 95) | (used >= 128)
    cut = np.zeros(len(word), dtype=np.bool_)
    cut[begins] = True
    _cut_scripts(data, word, cut)
    before = np.zeros(len(word), dtype=np.bool_)
    before[1:] = word[:-1]
    return np.flatnonzero(word & (~before | cut)), np.flatnonzero(before & (~word | cut))


def _cut_scripts(data: Bytes, word: Flags, cut: Flags) -> None:
    """Characters beyond ASCII: marks are no word, characters of scripts without spaces are a word each."""
    lead = np.flatnonzero(data[:-8] >= 0xC0)
    if not len(lead):
        return
    kind = _KIND[data[lead].astype(np.uint16) << np.uint16(8) | data[lead + 1]]
    wide = data[lead] == 0xEF
    if wide.any():
        kind[wide] = _kind_of_wide(data[lead[wide] + 1], data[lead[wide] + 2], kind[wide])
    width = 2 + (data[lead] >= 0xE0).astype(np.int64) + (data[lead] >= 0xF0)
    for byte in range(4):
        place = lead[(kind == _MARK) & (width > byte)] + byte
        word[place] = False
    alone = kind == _ALONE
    cut[lead[alone]] = True
    cut[lead[alone] + width[alone]] = True


_WORD, _MARK, _ALONE = 0, 1, 2


def _kinds() -> Bytes:
    """What a character is, by its first two UTF-8 bytes."""
    kind = np.zeros(65536, dtype=np.uint8)

    def mark(low: int, high: int, what: int) -> None:
        kind[low : high + 1] = what

    mark(0xC280, 0xC2BF, _MARK)  # no-break space, quotes and signs of Latin-1
    mark(0xE0B8, 0xE0BB, _ALONE)  # Thai, Lao
    mark(0xE180, 0xE182, _ALONE)  # Myanmar
    mark(0xE19E, 0xE19F, _ALONE)  # Khmer
    mark(0xE280, 0xE281, _MARK)  # dashes, quotes, zero-width characters
    mark(0xE282, 0xE2BF, _ALONE)  # currency, arrows, mathematics, symbols
    mark(0xE380, 0xE380, _MARK)  # Chinese and Japanese punctuation
    mark(0xE381, 0xE383, _ALONE)  # kana
    mark(0xE390, 0xE9BF, _ALONE)  # Chinese characters
    mark(0xEFA4, 0xEFAB, _ALONE)
    mark(0xEFB8, 0xEFB8, _MARK)  # variation selectors
    mark(0xEFBE, 0xEFBE, _ALONE)  # half-width kana
    mark(0xF09F, 0xF0AF, _ALONE)  # emoji, rarer Chinese characters
    return kind


_KIND = _kinds()


def _kind_of_wide(second: Bytes, third: Bytes, kind: Bytes) -> Bytes:
    """Full-width forms (EF BC, EF BD) have marks among letters and digits; EF BB BF is the byte order mark."""
    forms = (second == 0xBC) & ((third < 0x90) | ((third >= 0x9A) & (third <= 0xA0)) | (third >= 0xBB))
    forms |= (second == 0xBD) & ((third == 0x80) | ((third >= 0x9B) & (third <= 0xA5)))
    forms |= (second == 0xBB) & (third == 0xBF)
    kana = (second == 0xBD) & (third >= 0xA6)
    made: Bytes = np.where(forms, np.uint8(_MARK), np.where(kana, np.uint8(_ALONE), kind))
    return made


def _hash_words(data: Bytes, first: Ints, end: Ints) -> Hashes:
    """Eight bytes at a time: nearly every word is done after one step."""
    window: Hashes = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data.data, strides=(1,))
    length = end - first
    hashes: Hashes = (window[first] << _spare_bits(length)) * _SPREAD[0]
    hashes ^= hashes >> np.uint64(32)
    left = np.flatnonzero(length > 8)
    for step in range(1, _LONGEST):
        if not len(left):
            return hashes
        part = window[first[left] + 8 * step] << _spare_bits(length[left] - 8 * step)
        hashes[left] = mixed(hashes[left] * _SPREAD[4] ^ part)
        left = left[length[left] > 8 * (step + 1)]
    for back in range(1, _LONGEST + 1):
        hashes[left] = mixed(hashes[left] * _SPREAD[4] ^ window[end[left] - 8 * back])
    hashes[left] ^= length[left].astype(np.uint64)
    return hashes


def _spare_bits(length: Ints) -> Hashes:
    """By how much an eight-byte window shifts so that only the word's own bytes stay."""
    return (np.maximum(8 - length, 0) << 3).astype(np.uint64)


def ngrams(cut: Hashed, n: int, *, short: bool = False) -> Hashed:
    """Every n neighbouring words of each text, in order.

    Args:
        cut: words, as `words` gives them.
        n: words in an n-gram, 1 or more.
        short: a text with fewer words than n, but at least one, is one n-gram; else it has none.
    """
    counts, total = cut.counts, len(cut.hashes)
    padded = np.concatenate([cut.hashes, np.zeros(n, dtype=np.uint64)])
    made = np.zeros(total, dtype=np.uint64)
    for k in range(n):
        made += mixed(padded[k : total + k] + np.uint64(k)) if k >= len(_SPREAD) else padded[k : total + k] * _SPREAD[k]
    full = np.ones(total + 1, dtype=np.bool_)
    for k in range(1, n):
        full[cut.starts[1:][counts >= k] - k] = False
    number = np.maximum(counts - n + 1, 0)
    if short:
        few = (counts > 0) & (counts < n)
        for count in range(1, n):
            places = cut.starts[:-1][counts == count]
            made[places] = sum((padded[places + k] * _SPREAD[k % len(_SPREAD)] for k in range(count)), np.uint64(count))
            full[places] = True
        number[few] = 1
    return Hashed(mixed(made[full[:total]]), np.concatenate([[0], np.cumsum(number)]))


@dataclass(frozen=True)
class Common:
    """How two sets of each row meet."""

    both: Ints
    left: Ints
    """Distinct hashes on the left."""
    right: Ints

    @property
    def jaccard(self) -> npt.NDArray[np.float64]:
        """Size of the intersection over that of the union; NaN where both are empty."""
        union = self.left + self.right - self.both
        shares: npt.NDArray[np.float64] = np.divide(self.both, union, out=np.full(len(union), np.nan), where=union > 0)
        return shares


def common(left: Hashed, right: Hashed) -> Common:
    """Row by row, how many distinct hashes stand on both sides; by the upper 32 bits of each."""
    left, right = left.upper(), right.upper()
    counted = [np.zeros((3, 0), dtype=np.int64)]
    for low, high in stretches(left.counts + right.counts):
        counted.append(_common(_slice(left, low, high), _slice(right, low, high)))
    both, only_left, only_right = np.concatenate(counted, axis=1)
    return Common(both, only_left, only_right)


def sets(hashed: Hashed) -> Hashed:
    """Each text's different hashes, sorted; the upper 32 bits of each."""
    entry = np.sort((hashed.owners.astype(np.uint64) << np.uint64(32)) | hashed.upper().hashes)
    entry = entry[_changes(entry)]
    starts = np.searchsorted(entry, np.arange(len(hashed) + 1, dtype=np.uint64) << np.uint64(32))
    return Hashed(entry.astype(np.uint32), starts)


def stretches(weights: Ints, most: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Ranges of neighbouring rows that weigh about `most` together; a heavier row has a range of its own."""
    until = np.cumsum(weights)
    start = 0
    while start < len(weights):
        end = max(start + 1, int(np.searchsorted(until, (until[start - 1] if start else 0) + most, side="right")))
        yield start, end
        start = end


def _slice(hashed: Hashed, low: int, high: int) -> Hashed:
    starts = hashed.starts[low : high + 1]
    return Hashed(hashed.hashes[starts[0] : starts[-1]], starts - starts[0])


def _common(left: Hashed, right: Hashed) -> Ints:
    """row | hash | side in one number: sorted, what is common stands side by side."""
    entries = [
        (side.owners.astype(np.uint64) << np.uint64(33)) | (side.hashes.astype(np.uint64) << np.uint64(1)) | np.uint64(bit)
        for bit, side in enumerate((left, right))
    ]
    entry = np.sort(np.concatenate(entries))
    entry = entry[_changes(entry)]
    row = (entry >> np.uint64(33)).astype(np.int64)
    twice = ~_changes(entry >> np.uint64(1))
    is_right = (entry & np.uint64(1)).astype(np.bool_)
    return np.stack([np.bincount(row[which], minlength=len(left)) for which in (twice, ~is_right, is_right)])


def _changes(values: AnyHashes) -> Flags:
    """Where a value is not that before it."""
    new = np.ones(len(values), dtype=np.bool_)
    new[1:] = values[1:] != values[:-1]
    return new


def blocks(texts: pl.Series, multiple: int = 1) -> Iterator[pl.Series]:
    """The column in stretches of about `BLOCK_BYTES` and at most `BLOCK_TEXTS`, each a multiple of so many texts."""
    size = max(1, int(texts.str.len_bytes().sum() or 0))
    rows = max(1, min(BLOCK_TEXTS, len(texts) * BLOCK_BYTES // size) // multiple) * multiple
    for start in range(0, len(texts), rows):
        yield texts.slice(start, rows)


def in_threads(work: Callable[[pl.Series], Made], texts: pl.Series, multiple: int = 1) -> list[Made]:
    """`work` of every block, in order, on all cores: numpy and Polars let go of the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(work, blocks(texts, multiple)))


def concatenated(parts: list[Hashed]) -> Hashed:
    """Texts of several blocks as one; empties the list, so that the memory of what is copied is free for the rest."""
    counts = np.concatenate([np.zeros(1, dtype=np.int64), *(part.counts for part in parts)])
    hashes = [part.hashes for part in parts]
    parts.clear()
    return Hashed(stacked(hashes, np.zeros(0, dtype=np.uint64)), np.cumsum(counts))


def stacked(parts: list[Any], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Arrays one after the other, `empty` where there is none; empties the list."""
    if not parts:
        return empty
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    place = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        whole[place : place + len(part)] = part
        place += len(part)
    return whole
