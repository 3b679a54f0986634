"""Aggregate: votes weighed by how far each annotator can be trusted."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core.cast import Cast
from prefdata.core.errors import BadValue
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.weights import given_weights, skills, weigh, weights_of


@method(version=1, subject="pair", paper="Worker agreement with aggregate; log-odds weights: Nitzan & Paroush 1982")
def weighted_vote(
    votes: pl.DataFrame,
    *,
    of: list[str] | None = None,
    weights: dict[str, float] | None = None,
    gold: list[str] | None = None,
    scale: Literal["share", "log_odds"] = "share",
    leave_own_out: bool = True,
    prior: float = 1.0,
) -> Labels:
    """Weighted shares of votes, with weights that are given or learned from agreement with the others or with gold.

    skill = (agreeing votes + prior/2) / (judged votes + prior). An annotator's vote agrees where it is the sole choice of
    the majority of the others; where others are silent or split it is not judged. p_a and p_tie are weighted shares ("both
    bad" is a tie), margin = |P(a) - P(b)|, confidence the winner's share. A pair all of whose votes weigh nothing has no
    label. With leave_own_out false and prior 0 it is WAWA, worker agreement with aggregate.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        weights: weight by annotator id, or else by kind, such as {human: 3, llm: 1}; 1 for all others; null: learned.
        gold: annotator ids or kinds whose votes skill is measured against, and who do not vote themselves; null: the majority.
        scale: a vote weighs the skill itself, or the log-odds of skill, at least 0, which is best where errors are independent.
        leave_own_out: an annotator's own vote has no part in the majority it is held against.
        prior: pseudo-votes, half of which agree, so that one lucky vote is no perfect record.
    """
    if not prior >= 0:
        raise BadValue("aggregate/weighted_vote: prior", prior, "a number from 0")
    bad = next(((name, weight) for name, weight in (weights or {}).items() if not 0 <= weight < float("inf")), None)
    if bad:
        raise BadValue(f"aggregate/weighted_vote: weights[{bad[0]!r}]", bad[1], "a number from 0")
    cast, known = Cast.of(votes).without(gold)
    rows = {"annotator": cast.annotators, "kind": cast.kinds, "votes": cast.votes_of}
    if weights is not None:
        weight = given_weights(cast, weights)
    else:
        skill = skills(cast, known, leave_own_out=leave_own_out, prior=prior)
        weight = weights_of(skill.share, scale)
        rows |= {"judged": skill.judged, "skill": skill.share}
    p = weigh(cast, weight)
    frame = label_frame(cast.pairs, p[:, 0], p[:, 2], cast.counts.sum(axis=1))
    listed = table("annotators", {**rows, "weight": weight})
    return Labels(frame, {**listed, **notes(undecided(frame))})
