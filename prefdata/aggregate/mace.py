"""Aggregate: who knows and who guesses."""

from __future__ import annotations

import numpy as np
import polars as pl

from prefdata.core.cast import Cast
from prefdata.core.crowd import mace as fit
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method


@method(version=1, subject="pair", paper="MACE: Hovy et al. 2013")
def mace(
    votes: pl.DataFrame,
    seed: int,
    *,
    of: list[str] | None = None,
    bayes: bool = True,
    restarts: int = 10,
    tolerance: float = 1e-6,
    limit: int = 200,
) -> Labels:
    """Posterior of a, b and tie where an annotator either knows the outcome or guesses by a habit of their own.

    All outcomes that somebody names are equally likely at first; "both bad" is a tie. margin = |P(a) - P(b)|, confidence = P of the
    likeliest outcome. The step's report lists each annotator's competence, the probability of not guessing.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        bayes: variational Bayes with the paper's priors (Beta(0.5, 0.5) on guessing, Dirichlet(10) on habits), or plain EM.
        restarts: starts of the fit, one even-handed and the others drawn; the likeliest counts.
        tolerance: gain in log-likelihood per vote at which a start ends.
        limit: most rounds of a start.
    """
    cast = Cast.of(votes)
    truth = fit(cast, seed=seed, restarts=restarts, spam_prior=(0.5, 0.5) if bayes else None, tolerance=tolerance, limit=limit)
    frame = label_frame(cast.pairs, truth.p[:, 0], truth.p[:, 2], cast.counts.sum(axis=1))
    rows = {"annotator": cast.annotators, "kind": cast.kinds, "votes": cast.votes_of, "competence": truth.skill}
    detail = {
        **table("annotators", rows),
        "log_likelihood": round(truth.fit, 6) if np.isfinite(truth.fit) else None,
        "rounds": truth.rounds,
    }
    unsettled = None if truth.settled or not cast.size else f"not settled after {limit:,} rounds; give a larger limit or tolerance."
    return Labels(frame, {**detail, **notes(unsettled, undecided(frame))})
