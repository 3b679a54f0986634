"""What a router can see of a pair before a person has judged it: traits that are there or not, and the prompt's words.

The traits of the texts are those of the Hybrid Preferences router (Miranda et al. 2025, arXiv:2410.19133) that need no
model: lengths as percentile ranks in the pool, likenesses of the two responses as they are, each cut into three equal
bins of [0, 1]. Beside them stand what the machines said, where the pair came from, and columns of the user's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core import shingles
from prefdata.core.cast import codes
from prefdata.core.labels import CLASSES
from prefdata.core.sketch import Floats, likeness, once, sketch
from prefdata.core.stats import Ints, Reals

Bits = npt.NDArray[np.bool_]
WORDS = 64
"""Places of the sketch of a prompt, and of that of its responses."""
WORDINGS = ("prompts worded like this one", "responses worded like these")
_WEIGHT = 2.0
"""A prompt's words count this much more than those of one response: the same prompt comes back with other responses."""
SOURCES = 20
"""So many sources, the largest, are traits of their own."""
_LEVELS = {
    "prompt": ("a short prompt", "a prompt of middle length", "a long prompt"),
    "shorter": ("a short shorter response", "a shorter response of middle length", "a long shorter response"),
    "longer": ("a short longer response", "a longer response of middle length", "a long longer response"),
    "gap": ("responses of like length", "responses of unlike length", "one response far longer"),
    "words": ("few words in common", "some words in common", "most words in common"),
    "phrases": ("few phrases in common", "some phrases in common", "most phrases in common"),
    "cosine": ("responses unlike each other", "responses somewhat alike", "responses much alike"),
}
_NOTABLE = 0.1
"""A response is longer where it has this share more words."""


@dataclass(frozen=True)
class Traits:
    """Traits of the pairs of a pool.

    Attributes:
        names: of the columns of `there`.
        there: (pairs, names), whether a pair has it.
        words: sketches of the prompt and of both responses together, (pairs, 2 WORDS); see `WORDINGS`.
    """

    names: tuple[str, ...]
    there: Bits
    words: Floats

    def matrix(self, of: Ints | slice = slice(None)) -> Reals:
        """Traits and words side by side, for a linear model."""
        return np.concatenate([self.there[of].astype(np.float64), self.words[of].astype(np.float64)], axis=1)


def of_texts(rows: pl.DataFrame) -> tuple[dict[str, Bits], Reals, Floats]:
    """Traits of the texts, words of a less words of b over words of the longer, and the words of prompt and responses."""
    return once("traits", rows.select("prompt", "a_text", "b_text"), lambda: _of_texts(rows))


def _of_texts(rows: pl.DataFrame) -> tuple[dict[str, Bits], Reals, Floats]:
    lengths = {name: _lengths(rows[name]) for name in ("prompt", "a_text", "b_text")}
    a, b = lengths["a_text"].astype(np.float64), lengths["b_text"].astype(np.float64)
    longer = np.maximum(np.maximum(a, b), 1)
    levels = {
        "prompt": _ranks(lengths["prompt"].astype(np.float64)),
        "shorter": _ranks(np.minimum(a, b)),
        "longer": _ranks(np.maximum(a, b)),
        "gap": np.abs(a - b) / longer,
        **_alike(rows),
    }
    traits: dict[str, Bits] = {}
    for kind, names in _LEVELS.items():
        traits |= binned(levels[kind], names)
    at, prompts = codes(rows["prompt"].fill_null(""))
    responses = sketch(rows["a_text"], WORDS) + sketch(rows["b_text"], WORDS)
    return traits, (a - b) / longer, np.concatenate([np.float32(_WEIGHT) * sketch(prompts, WORDS)[at], responses], axis=1)


def _lengths(texts: pl.Series) -> Ints:
    return np.concatenate([shingles.words(block).counts for block in shingles.blocks(texts)] or [np.zeros(0, dtype=np.int64)])


def _alike(rows: pl.DataFrame) -> dict[str, Reals]:
    """Jaccard similarity of words and of word pairs, and the cosine of the responses' sketches; in stretches, for memory."""
    found: dict[str, list[Reals]] = {"words": [], "phrases": [], "cosine": []}
    for low in range(0, rows.height, 50_000):
        texts = [rows[name].slice(low, 50_000) for name in ("a_text", "b_text")]
        a, b = (shingles.column(text) for text in texts)
        found["words"].append(shingles.common(a, b).jaccard)
        found["phrases"].append(shingles.common(shingles.ngrams(a, 2), shingles.ngrams(b, 2)).jaccard)
        both = sketch(pl.concat(texts))
        found["cosine"].append(likeness(both[: len(texts[0])], both[len(texts[0]) :]))
    return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.items()}


def of_voices(machines: Reals, label: Ints, longer_a: Reals, sure: Reals) -> dict[str, Bits]:
    """What the machines said, as far as it was said.

    Args:
        machines: voices of all machines for a, b, tie: (pairs, 3).
        label: the AI's label: 0 a, 1 b, 2 tie, -1 none.
        longer_a: by how much a is longer than b, in [-1, 1].
        sure: how clear the AI was, in any unit; NaN where it did not say.
    """
    count, ahead = machines.sum(axis=1), np.sign(longer_a) * (np.abs(longer_a) > _NOTABLE)
    picked = np.where(label == CLASSES.index("a"), 1, np.where(label == CLASSES.index("b"), -1, 0))
    return {
        "the judges disagree": machines.max(axis=1, initial=0) < count,
        "the judges agree": (count > 1) & (machines.max(axis=1, initial=0) == count),
        "the AI calls it a tie": label == CLASSES.index("tie"),
        "the AI chose the longer response": (picked * ahead) > 0,
        "the AI chose the shorter response": (picked * ahead) < 0,
        **binned(_ranks(sure), ("the AI was unsure", "the AI was fairly sure", "the AI was sure")),
    }


def of_columns(rows: pl.DataFrame, names: Sequence[str]) -> dict[str, Bits]:
    """Columns of the user's choice by thirds of the pool, and the largest sources, where there are several."""
    traits: dict[str, Bits] = {}
    for name in names:
        values = rows[name].cast(pl.Float64).to_numpy().astype(np.float64)
        traits |= binned(_ranks(values), (f"low {name}", f"middle {name}", f"high {name}"))
        traits[f"no {name}"] = ~np.isfinite(values)
    counted = rows["source"].drop_nulls().value_counts(sort=True)
    if counted.height > 1:
        largest = counted.sort("count", "source", descending=[True, False])["source"].head(SOURCES)
        traits |= {f"from {name}": (rows["source"].fill_null("") == name).to_numpy() for name in largest}
    return traits


def joined(parts: Sequence[Mapping[str, Bits]], words: Floats) -> Traits:
    """Traits in one table; those that no pair or every pair has say nothing and are left out."""
    named: dict[str, Any] = {name: there for part in parts for name, there in part.items() if there.any() and not there.all()}
    table = np.stack(list(named.values()), axis=1) if named else np.zeros((len(words), 0), dtype=np.bool_)
    return Traits(tuple(named), table, words)


def binned(values: Reals, names: Sequence[str]) -> dict[str, Bits]:
    """Equal bins of [0, 1], the upper end inside the last; a value that is NaN is in none."""
    with np.errstate(invalid="ignore"):
        bins = np.minimum(np.floor(values * len(names)), len(names) - 1)
    return {name: bins == number for number, name in enumerate(names)}


def _ranks(values: Reals) -> Reals:
    """Percentile ranks in [0, 1], equals share the mean rank; NaN stays NaN."""
    known = np.isfinite(values)
    ranks = np.full(len(values), np.nan)
    count = int(known.sum())
    if count:
        ranks[known] = (pl.Series(values[known]).rank("average").to_numpy() - 0.5) / count
    return ranks
