"""Aggregate: the truth and everybody's confusions, learned together."""

from __future__ import annotations

import numpy as np
import polars as pl

from prefdata.core.cast import Cast
from prefdata.core.crowd import dawid_skene as fit
from prefdata.core.errors import BadValue
from prefdata.core.labels import CLASSES, Labels, label_frame, notes, table, undecided
from prefdata.core.method import method


@method(version=1, subject="pair", paper="Dawid & Skene 1979")
def dawid_skene(
    votes: pl.DataFrame,
    *,
    of: list[str] | None = None,
    gold: list[str] | None = None,
    symmetric: bool = False,
    smoothing: float = 0.0,
    tolerance: float = 1e-7,
    limit: int = 1000,
) -> Labels:
    """Posterior of a, b and tie where every annotator has a confusion matrix, by expectation and maximisation.

    Starts from shares of votes; "both bad" is a tie; outcomes that nobody names do not exist. margin = |P(a) - P(b)|, confidence =
    P of the likeliest outcome. Side a is the response with the smaller id, so a confusion of a with b is an error, not a
    bias for the left. The step's report holds the prior and each annotator's confusion matrix (`a_for_tie`: says a where a
    tie is true) and accuracy, the share of right answers the matrix leads one to expect. Where a pair has one vote, nothing
    but that voter's record speaks for it.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        gold: annotator ids or kinds whose votes are the truth: they fix the pairs they speak of and teach about the others.
        symmetric: what is learned about a holds for b and the other way round, which halves what few votes must teach.
        smoothing: pseudo-votes in every cell of every confusion matrix; 0 is the paper's, and sure of itself after few votes.
        tolerance: gain in log-likelihood per vote at which it ends.
        limit: most rounds.
    """
    if not smoothing >= 0:
        raise BadValue("aggregate/dawid_skene: smoothing", smoothing, "a number from 0")
    cast, known = Cast.of(votes).without(gold)
    truth = fit(cast, known=known, symmetric=symmetric, smoothing=smoothing, tolerance=tolerance, limit=limit)
    frame = label_frame(cast.pairs, truth.p[:, 0], truth.p[:, 2], cast.counts.sum(axis=1))
    assert truth.answers is not None
    named = [k for k in range(len(CLASSES)) if np.isfinite(truth.answers[:, k, k]).any()]
    rows = {"annotator": cast.annotators, "kind": cast.kinds, "votes": cast.votes_of, "accuracy": truth.skill}
    rows |= {f"{CLASSES[said]}_for_{CLASSES[true]}": truth.answers[:, said, true] for true in named for said in named}
    detail = {
        **table("annotators", rows),
        "prior": dict(zip(CLASSES, truth.prior.round(6).tolist(), strict=True)),
        "log_likelihood": round(truth.fit, 6) if np.isfinite(truth.fit) else None,
        "rounds": truth.rounds,
    }
    single = int((cast.counts.sum(axis=1) == 1).sum())
    said = notes(
        f"{single:,} of {frame.height:,} pairs have one vote: their label is that vote, weighed by the voter's record." if single else None,
        None if truth.settled else f"not settled after {limit:,} rounds; give a larger limit or tolerance.",
        undecided(frame),
    )
    return Labels(frame, {**detail, **said})
