"""Aggregate: the most important signal that tells the two apart decides."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.labels import Labels, label_frame, notes, undecided
from prefdata.core.method import method
from prefdata.core.plural import difference_of
from prefdata.core.stats import Reals


@method(version=1, subject="pair", paper="HERON: Bukharin et al. 2023 (2309.02632)")
def hierarchical(
    pool: pl.DataFrame,
    *,
    features: list[str],
    margins: list[float] | None = None,
    of: list[str] | None = None,
    unknown: Literal["stop", "skip"] = "stop",
) -> Labels:
    """Compares by the most important signal first; the next one is asked only where the difference stays within the margin.

    A decision tree over signals in the order of their importance. The side that is ahead by more than the margin wins: its P,
    the margin and the confidence are 1. Where every signal stays within its margin the pair is a tie. All pairs get a label,
    voted on or not: votes are one of the signals. The step's report says how many pairs each signal decided.

    Args:
        features: numbers of responses (score, chars, signals) by name, the most important first; a minus before a name: less
            is better, such as [correct, votes, "-chars"]. votes is the share of votes for a less that for b.
        margins: the difference that does not count yet, from 0: one number for all features, or one for each; null: 0.
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        unknown: where a feature of a side is unknown, or nobody voted: no label (stop), or the next feature is asked (skip).
    """
    if not features:
        raise BadValue("aggregate/hierarchical: features", features, "at least one name", 'Such as [score, "-chars"].')
    limits = list(margins) if margins is not None else [0.0]
    limits = limits * len(features) if len(limits) == 1 else limits
    if len(limits) != len(features) or not all(limit >= 0 for limit in limits):
        raise BadValue("aggregate/hierarchical: margins", margins, f"one number from 0, or {len(features)} of them")
    lead = np.full(pool.height, np.nan)
    undecided_yet = np.ones(pool.height, dtype=bool)
    decided: dict[str, int] = {}
    for name, limit in zip(features, limits, strict=True):
        difference = _lead(pool, name)
        asked = undecided_yet & np.isfinite(difference)
        decides = asked & (np.abs(difference) > limit)
        lead[asked] = np.where(decides, np.sign(difference), 0.0)[asked]
        undecided_yet &= ~decides
        if unknown == "stop":
            stopped = undecided_yet & ~asked
            lead[stopped] = np.nan
            undecided_yet &= ~stopped
        decided[name] = int(decides.sum())
    p_a, p_tie = np.where(np.isnan(lead), np.nan, lead > 0), np.where(np.isnan(lead), np.nan, lead == 0)
    frame = label_frame(pool["id"], p_a, p_tie, pool["n"])
    return Labels(frame, {"decided_by": decided, **notes(undecided(frame))})


def _lead(pool: pl.DataFrame, name: str) -> Reals:
    """How far a is ahead by one feature; NaN where that is unknown."""
    if name.removeprefix("-") != "votes":
        return difference_of(pool, [name])[:, 0]
    share = (pool["n_a"].cast(pl.Float64) - pool["n_b"].cast(pl.Float64)) / pool["n"].cast(pl.Float64)
    values: Reals = share.fill_nan(None).fill_null(np.nan).to_numpy()
    return -values if name.startswith("-") else values
