"""Votes as numbers: what the aggregators that look at annotators compute on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from prefdata.core.labels import CLASSES
from prefdata.core.stats import Bools, Ints, Reals

_SAID = {"a": 0, "b": 1, "tie": 2, "both_bad": 2}


@dataclass(frozen=True)
class Cast:
    """Votes, one entry each; "both bad" is a tie.

    Attributes:
        pair: number of the pair, in the order of `pairs`.
        who: number of the annotator, in the order of `annotators`.
        said: 0 a, 1 b, 2 tie.
        pairs, annotators: their ids, in the order in which the votes name them first.
        kinds: the annotators' kinds.
    """

    pair: Ints
    who: Ints
    said: Ints
    pairs: pl.Series
    annotators: pl.Series
    kinds: pl.Series

    @classmethod
    def of(cls, votes: pl.DataFrame) -> Cast:
        """From the runner's votes: id (of the pair), annotator_id, annotator_kind, choice."""
        pair, pairs = codes(votes["id"])
        who, annotators = codes(votes["annotator_id"].fill_null(""))
        said = votes["choice"].replace_strict(_SAID, default=None, return_dtype=pl.Int64)
        first = np.full(len(annotators), len(who))
        np.minimum.at(first, who, np.arange(len(who)))
        made = cls(pair, who, said.fill_null(-1).to_numpy(), pairs, annotators, votes["annotator_kind"].gather(first.astype(np.uint32)))
        return made if said.null_count() == 0 else made.only(made.said >= 0)

    def only(self, kept: Bools) -> Cast:
        """These votes; pairs and annotators stay numbered as they are."""
        return replace(self, pair=self.pair[kept], who=self.who[kept], said=self.said[kept])

    @property
    def size(self) -> int:
        return len(self.said)

    @cached_property
    def counts(self) -> Reals:
        """(pairs, 3): how often each outcome was named."""
        return tally(self.pair * len(CLASSES) + self.said, len(self.pairs) * len(CLASSES)).reshape(-1, len(CLASSES))

    @cached_property
    def votes_of(self) -> Reals:
        """Votes per annotator."""
        return tally(self.who, len(self.annotators))

    @cached_property
    def classes(self) -> Ints:
        """The outcomes that somebody named."""
        return np.flatnonzero(np.bincount(self.said, minlength=len(CLASSES)))

    def by(self, listed: Sequence[str] | None) -> Bools:
        """Per vote: whether it is by one of these annotator ids or kinds."""
        if not listed or not self.size:
            return np.zeros(self.size, dtype=bool)
        wanted: Bools = (self.annotators.is_in(list(listed)) | self.kinds.is_in(list(listed)).fill_null(False)).to_numpy()
        return wanted[self.who]

    def without(self, gold: Sequence[str] | None) -> tuple[Cast, Ints | None]:
        """The other votes, and per pair what these annotators or kinds say as one voice: -1 where they are silent or split.

        None in place of the outcomes where nobody is named.
        """
        if not gold:
            return self, None
        theirs = self.by(gold)
        return self.only(~theirs), leaders(self.only(theirs).counts)


def codes(values: pl.Series) -> tuple[Ints, pl.Series]:
    """Numbers 0, 1, ... of the distinct values in the order in which they come first, and those values."""
    if len(values) and 2 * int(values.head(1000).rle_id()[-1]) < min(len(values), 1000):  # looks as if it came in stretches
        runs = values.rle_id()
        if values.n_unique() == int(runs[-1]) + 1:  # every value stands in one: no hashing of each entry
            return runs.to_numpy().astype(np.int64), values.filter(runs.diff().fill_null(1) != 0)
    found = values.unique(maintain_order=True)
    if values.dtype == pl.String and not found.null_count():
        return values.cast(pl.Enum(found)).to_physical().to_numpy().astype(np.int64), found
    numbered = found.to_frame("value").with_row_index("at")
    at = values.to_frame("value").join(numbered, on="value", how="left", maintain_order="left", nulls_equal=True)["at"]
    return at.to_numpy().astype(np.int64), found


def tally(at: Ints, size: int, weights: Reals | None = None) -> Reals:
    """How often each number occurs, or the sum of its weights, as reals."""
    return np.bincount(at, weights=weights, minlength=size).astype(np.float64)


def leaders(counts: Reals, equal: float = 1e-9) -> Ints:
    """Per row the column with the most, -1 where several lead or the row is empty."""
    if not len(counts):
        return np.zeros(0, dtype=np.int64)
    top = counts.max(axis=1)
    sole = ((counts >= (top - equal)[:, None]).sum(axis=1) == 1) & (top > 0)
    return np.where(sole, counts.argmax(axis=1), -1)
