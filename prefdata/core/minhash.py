"""Near-duplicates of many texts: MinHash finds candidates, the sets themselves decide.

One permutation MinHash (Li, Owen & Zhang 2012) with optimal densification (Shrivastava 2017) over word n-grams; the
signature is cut into bands, documents that agree in a band are candidates, and a candidate counts only where the Jaccard
similarity of its n-grams with the other's, counted and not estimated, reaches the threshold.

A group is a star: a first document that no earlier first resembles, and all that resemble it. So every member reaches the
threshold with the first of its group, no two firsts do (as far as candidates were found), and by the triangle inequality
of the Jaccard distance two members of one group have a similarity of at least 2 * threshold - 1.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.shingles import Hashed, Hashes, Ints, common, concatenated, in_threads, mixed, ngrams, sets, stacked, stretches, words

Reals = npt.NDArray[np.float64]
Signatures = npt.NDArray[np.uint32]

BINS = 100
"""Bins of a signature. In 20 bands of 5 two documents meet with probability 0.9996 at similarity 0.8, 0.47 at 0.5, 0.006 at 0.2."""
_EMPTY = np.uint32(0xFFFFFFFF)
_TRIES = 64
_NEIGHBOURS = 16
"""Within a band a document is compared with this many before it, and with the first: large buckets stay affordable."""
_AT_ONCE = 5
_ROUNDS = 64


@dataclass(frozen=True)
class Groups:
    """For each document, in order."""

    first: Ints
    """Place of the first document of its group; its own where it is that, -1 for a document without words."""
    similarity: Reals
    """Jaccard similarity with the first; 1 for the first itself, NaN without words."""


@dataclass(frozen=True)
class _Links:
    """Pairs of documents that reach the threshold; `early` stands before `late`."""

    early: Ints
    late: Ints
    similarity: Reals


def near_duplicates(texts: pl.Series, *, n: int = 3, threshold: float = 0.8, parts: int = 1) -> Groups:
    """Group documents whose sets of word n-grams have a Jaccard similarity of at least `threshold` with the group's first.

    A text with fewer than n words is one n-gram, so it groups only with its like.

    Args:
        texts: in the order that decides who is first.
        n: words in an n-gram.
        threshold: above 0, at most 1.
        parts: every so many neighbouring texts are one document.
    """
    documents, whole, keys = _sketch(texts, n, parts, threshold)
    places = np.flatnonzero(documents.counts > 0)
    _, firsts, which = np.unique(whole[places], return_index=True, return_inverse=True)
    same = places[firsts[which]]  # of equal documents only the first is compared with others
    compared = places[np.sort(firsts)]
    compared = compared[keys[compared].any(axis=1)]
    keys = keys[compared]
    found, similar = _stars(_links(documents, keys, compared, threshold), len(documents))
    first, similarity = np.full(len(documents), -1, dtype=np.int64), np.full(len(documents), np.nan)
    first[places], similarity[places] = found[same], similar[same]
    return Groups(first, similarity)


def _rows(threshold: float) -> int:
    """Bins in a band, 1 to 5: as many as find a pair right at the threshold with probability 0.99 or more."""
    found = [rows for rows in range(1, 6) if 1 - (1 - threshold**rows) ** (BINS // rows) >= 0.99]
    return max(found, default=1)


def _sketch(texts: pl.Series, n: int, parts: int, threshold: float) -> tuple[Hashed, Hashes, Hashes]:
    """Of each document the set of its n-grams, one hash of that set, and its band keys [documents, bands].

    Equal documents of a block share a sketch. One with so few n-grams that no other set reaches the threshold has no keys (0).
    """
    rows = _rows(threshold)
    fewest = threshold / (1 - threshold) - 1e-9 if threshold < 1 else np.inf

    def work(block: pl.Series) -> tuple[Hashed, Hashes, Hashes]:
        made = sets(ngrams(words(block), n, short=True).joined(parts))
        hashes = mixed(made.hashes.astype(np.uint64) + np.uint64(1))
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(hashes, dtype=np.uint64)])
        whole = mixed(sums[made.starts[1:]] - sums[made.starts[:-1]])
        keys = np.zeros((len(made), BINS // rows), dtype=np.uint64)
        enough = np.flatnonzero(made.counts >= fewest)
        _, one, which = np.unique(whole[enough], return_index=True, return_inverse=True)
        keys[enough] = _band_keys(_signatures(Hashed(hashes, made.starts).take(enough[one])), rows)[which]
        return made, whole, keys

    made = in_threads(work, texts, parts)
    grams, whole, keys = [part[0] for part in made], [part[1] for part in made], [part[2] for part in made]
    made.clear()
    documents = concatenated(grams)
    no_hash, no_keys = np.zeros(0, dtype=np.uint64), np.zeros((0, BINS // rows), dtype=np.uint64)
    return documents, stacked(whole, no_hash), stacked(keys, no_keys)


def _signatures(hashed: Hashed) -> Signatures:
    """The least hash in each bin [documents, bins]: the lower half of a hash says which bin, the upper half competes in it."""
    bins = (((hashed.hashes & np.uint64(0xFFFFFFFF)) * np.uint64(BINS)) >> np.uint64(32)).astype(np.int64)
    least = np.full(len(hashed) * BINS, _EMPTY, dtype=np.uint32)
    np.minimum.at(least, hashed.owners * BINS + bins, hashed.upper().hashes)
    return _densified(least.reshape(len(hashed), BINS))


def _densified(least: Signatures) -> Signatures:
    """Empty bins borrow from a bin drawn by a hash of (bin, try), the same for every document; at last from the least of all."""
    dense = least.copy()
    row, column = np.nonzero(least == _EMPTY)
    for draw in _DRAWS:
        borrowed = least[row, draw[column]]
        dense[row, column] = borrowed
        empty = borrowed == _EMPTY
        row, column = row[empty], column[empty]
        if not len(row):
            return dense
    dense[row, column] = least.min(axis=1)[row]
    return dense


_DRAWS = (mixed(np.arange(_TRIES * BINS, dtype=np.uint64) + np.uint64(1)) % np.uint64(BINS)).astype(np.int64).reshape(_TRIES, BINS)


def _band_keys(signatures: Signatures, rows: int) -> Hashes:
    bands = BINS // rows
    bins = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    keys = np.zeros((len(signatures), bands), dtype=np.uint64)
    for row in range(rows):
        keys = mixed(keys ^ bins[:, :, row])
    return keys


def _links(documents: Hashed, keys: Hashes, places: Ints, threshold: float) -> _Links:
    """Candidates of all bands, each counted once; `keys` belong to the documents at `places`."""
    known = np.zeros(0, dtype=np.uint64)
    links = [_Links(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    bands = keys.shape[1]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for start in range(0, bands, _AT_ONCE):
            found = np.unique(np.concatenate(list(pool.map(_candidates, keys.T[start : start + _AT_ONCE]))))
            found = np.setdiff1d(found, known, assume_unique=True)
            known = np.concatenate([known, found])
            early, late = places[(found >> np.uint64(32)).astype(np.int64)], places[(found & np.uint64(0xFFFFFFFF)).astype(np.int64)]
            ranges = stretches(documents.counts[early] + documents.counts[late])
            chunks = [(early[low:high], late[low:high]) for low, high in ranges]
            links.extend(pool.map(lambda chunk: _verified(documents, chunk[0], chunk[1], threshold), chunks))
    return _Links(*(np.concatenate([getattr(link, name) for link in links]) for name in ("early", "late", "similarity")))


def _candidates(keys: Hashes) -> Hashes:
    """Pairs of places that share a key, as early << 32 | late, sorted."""
    bits = np.uint64(max(1, len(keys) - 1).bit_length())
    packed = np.sort((keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64))
    group, place = packed >> bits, packed & ((np.uint64(1) << bits) - np.uint64(1))
    pairs = [np.zeros(0, dtype=np.uint64)]
    for lag in range(1, _NEIGHBOURS + 1):
        same = group[lag:] == group[:-lag]
        if not same.any():
            return np.unique(np.concatenate(pairs))
        pairs.append((place[:-lag][same] << np.uint64(32)) | place[lag:][same])
    order = np.arange(len(group))
    start = np.maximum.accumulate(np.where(np.concatenate([[True], group[1:] != group[:-1]]), order, 0))
    far = order - start > _NEIGHBOURS
    pairs.append((place[start[far]] << np.uint64(32)) | place[far])
    return np.unique(np.concatenate(pairs))


def _verified(documents: Hashed, early: Ints, late: Ints, threshold: float) -> _Links:
    similarity = common(documents.take(early), documents.take(late)).jaccard
    alike = similarity >= threshold
    return _Links(early[alike], late[alike], similarity[alike])


def _stars(links: _Links, size: int) -> tuple[Ints, Reals]:
    """First document and similarity with it, for each document: the greedy choice in order of place, in rounds over all links."""
    first, similarity = np.arange(size, dtype=np.int64), np.ones(size)
    is_first, is_member = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
    early, late = links.early, links.late
    for _ in range(_ROUNDS):
        if not len(early):
            break
        waits = np.zeros(size, dtype=np.bool_)
        waits[late] = True  # an earlier one is not decided yet
        is_first[early[~waits[early]]] = True
        is_member[late[is_first[early]]] = True
        undecided = ~(is_member[late] | is_member[early] | is_first[early])
        early, late = early[undecided], late[undecided]
    for one, other in sorted(zip(early.tolist(), late.tolist(), strict=True), key=lambda link: link[1]):
        is_member[other] |= not is_member[one]  # long chains, where each round decides one link only
    counts = ~is_member[links.early] & is_member[links.late]
    early, late, similar = links.early[counts], links.late[counts], links.similarity[counts]
    order = np.lexsort((early, late))[::-1]  # of several, the earliest is written last
    first[late[order]], similarity[late[order]] = early[order], similar[order]
    return first, similarity


def group_columns(who: str, texts: list[pl.Series], n: int, threshold: float, prefix: str) -> pl.DataFrame:
    """`near_duplicates` as columns PREFIX_rank, PREFIX_group, PREFIX_similarity; several columns of texts make one document.

    A group's number is the place of its first document, from 0.
    """
    if not 1 <= n <= 20:
        raise BadValue(f"{who}: n", n, "1 to 20")
    if not 0 < threshold <= 1:
        raise BadValue(f"{who}: threshold", threshold, "above 0 and at most 1")
    named = pl.DataFrame({str(number): column.fill_null("") for number, column in enumerate(texts)})
    whole = named.select(pl.concat_list(pl.all())).to_series().explode() if len(texts) > 1 else texts[0]
    groups = near_duplicates(whole, n=n, threshold=threshold, parts=len(texts))
    table = pl.DataFrame({"group": groups.first, "similarity": pl.Series(groups.similarity, nan_to_null=True)})
    table = table.with_columns(group=pl.when(pl.col("group") >= 0).then("group"))
    rank = pl.when(pl.col("group").is_not_null()).then(pl.int_range(pl.len()).over("group"))
    return table.select(
        rank.alias(f"{prefix}_rank"), pl.col("group").alias(f"{prefix}_group"), pl.col("similarity").alias(f"{prefix}_similarity")
    )
