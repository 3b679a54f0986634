"""Aggregate: soft labels that know how few votes they rest on."""

from __future__ import annotations

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.labels import Labels, label_frame, notes, undecided
from prefdata.core.method import method
from prefdata.core.special import beta_above_half


@method(version=1, subject="pair", paper="DPRM: Li et al. 2024 (2402.09764)")
def beta_posterior(
    counts: pl.DataFrame, *, of: list[str] | None = None, prior_a: float = 1.0, prior_b: float = 1.0, sure: float = 0.5
) -> Labels:
    """p_a is the mean of Beta(prior_a + votes for a, prior_b + votes for b), a tie being half a vote for each.

    confidence is the posterior probability that the winner is better more often than not, P(p > 1/2) or P(p < 1/2); one
    vote out of one has 0.75 under the flat prior. margin = |2 p_a - 1|; P(tie) is 0. The posterior's standard deviation is
    sqrt(p_a (1 - p_a) / (votes + prior_a + prior_b + 1)).

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        prior_a: pseudo-votes for a, above 0.
        prior_b: pseudo-votes for b, above 0; sides are named by chance, so that other values than prior_a favour chance.
        sure: pairs whose confidence is below have no winner; from 0.5 to 1.
    """
    for name, value in (("prior_a", prior_a), ("prior_b", prior_b)):
        if not 0 < value < float("inf"):
            raise BadValue(f"aggregate/beta_posterior: {name}", value, "a number above 0")
    if not 0.5 <= sure <= 1:
        raise BadValue("aggregate/beta_posterior: sure", sure, "a probability from 0.5 to 1")
    tied = (counts["n_tie"] + counts["n_both_bad"]).cast(pl.Float64).to_numpy() / 2
    a = counts["n_a"].cast(pl.Float64).to_numpy() + tied + prior_a
    b = counts["n_b"].cast(pl.Float64).to_numpy() + tied + prior_b
    patterns, at = np.unique(np.stack([a, b], axis=1), axis=0, return_inverse=True)
    above = beta_above_half(patterns[:, 0], patterns[:, 1])[at.ravel()]
    p_a = a / (a + b)
    frame = label_frame(counts["id"], p_a, p_a * 0, counts["n"], np.where(p_a >= 0.5, above, 1 - above))
    frame = frame.with_columns(winner=pl.when(pl.col("confidence") >= sure).then(pl.col("winner")))
    spread = np.sqrt(p_a * (1 - p_a) / (a + b + 1))
    detail = {"mean_standard_deviation": round(float(spread.mean()), 6)} if len(spread) else {}
    return Labels(frame, {**detail, **notes(undecided(frame))})
