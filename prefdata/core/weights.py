"""How far each annotator is trusted, from agreement with the others or with gold, and what the votes then weigh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from prefdata.core.cast import Cast, leaders, tally
from prefdata.core.labels import CLASSES
from prefdata.core.stats import Ints, Reals

_SURE = 1e-3
"""Log-odds are those of a skill this far from 0 and 1 at least: nobody outvotes everybody else for ever."""


class Skills(NamedTuple):
    """Per annotator."""

    share: Reals
    """Of the judged votes those that agree; of somebody without any, the share of all annotators together."""
    judged: Reals
    """Votes there was something to hold against."""


def skills(cast: Cast, known: Ints | None, *, leave_own_out: bool, prior: float) -> Skills:
    """Agreement of every annotator with the known outcomes, or with the majority where none are given.

    Args:
        known: per pair the outcome, -1 where unknown; None: the sole leader of the votes.
        leave_own_out: of the votes of the others.
        prior: pseudo-votes, half of which agree.
    """
    if known is not None:
        against = known[cast.pair]
    elif leave_own_out:
        others = cast.counts[cast.pair]
        others[np.arange(cast.size), cast.said] -= 1
        against = leaders(others)
    else:
        against = leaders(cast.counts)[cast.pair]
    judged = tally(cast.who, len(cast.annotators), (against >= 0).astype(np.float64))
    agreed = tally(cast.who, len(cast.annotators), (against == cast.said).astype(np.float64))
    whole = float(agreed.sum() / judged.sum()) if judged.sum() else 0.5
    share = np.where(judged > 0, (agreed + prior / 2) / np.maximum(judged + prior, 1e-300), whole)
    return Skills(share, judged)


def weights_of(share: Reals, scale: Literal["share", "log_odds"]) -> Reals:
    """The skill itself, or its log-odds, at least 0."""
    if scale == "share":
        return share
    sure = share.clip(_SURE, 1 - _SURE)
    out: Reals = np.maximum(np.log(sure / (1 - sure)), 0.0)
    return out


def given_weights(cast: Cast, weights: Mapping[str, float]) -> Reals:
    """Per annotator: by id, else by kind, else 1."""
    kind = cast.kinds.replace_strict(dict(weights), default=1.0)
    named = cast.annotators.replace_strict(dict(weights), default=None)
    out: Reals = named.cast(float).fill_null(kind.cast(float)).to_numpy()
    return out


def weigh(cast: Cast, weight: Reals) -> Reals:
    """(pairs, 3): weighted shares of the votes, NaN where nothing weighs anything."""
    size = len(cast.pairs) * len(CLASSES)
    sums = tally(cast.pair * len(CLASSES) + cast.said, size, weight.take(cast.who)).reshape(-1, len(CLASSES))
    whole = sums.sum(axis=1, keepdims=True)
    out: Reals = np.full_like(sums, np.nan)
    np.divide(sums, whole, out=out, where=whole > 0)
    return out
