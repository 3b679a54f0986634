"""Aggregate: groups of annotators with a reward each, and labels that no group is left out of."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.labels import Labels
from prefdata.core.method import method
from prefdata.core.plural import Ground, chance, finish, group_rows, held_out
from prefdata.core.tastes import Opinions, groups, log_likelihood


@method(version=1, subject="pair", needs=("a_model", "b_model"), paper="MaxMin-RLHF (2402.08925)")
def em_mixture(
    votes: pl.DataFrame,
    seed: int,
    *,
    of: list[str] | None = None,
    many: int = 2,
    level: Literal["model", "prompt"] = "model",
    features: list[str] | None = None,
    assign: Literal["soft", "hard"] = "soft",
    welfare: Literal["maxmin", "mean"] = "maxmin",
    l2: float = 0.1,
    restarts: int = 5,
    least_share: float = 0.0,
    held_out_share: float = 0.1,
) -> Labels:
    """Annotators in groups with a Bradley-Terry reward each, by expectation and maximisation; the label serves the worst-off group.

    maxmin: p_a is the middle of the groups' P(a), which is off by least for the group it is off most; the winner is the
    side whose worst group likes it better, and confidence is that group's P of the winner. mean: p_a is the groups' mean by
    their shares of the annotators. A tie is half a vote for each side, and P(tie) is 0. The step's report lists the
    groups with the share of votes their reward foresees, the worst-off group, everybody's group, and the log-loss on hidden
    votes with groups and with one reward for all: where groups do not win there, they are not there.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        many: how many groups.
        level: what has a strength in a group's reward: each model, or each response among those of its prompt.
        features: numbers of responses (chars, score, signals) that a group's reward weighs instead of strengths, in units of
            their spread.
        assign: annotators belong to groups with probabilities, or each to the likeliest one.
        welfare: whose P(a) the label gives.
        l2: ridge on every strength or weight, above 0.
        restarts: starts of the fit, the best of which counts.
        least_share: groups of a smaller share of the annotators have no part in the label; two people who answer at random
            are a group, too, and maxmin lets the worst-off group stop every winner.
        held_out_share: share of the votes that are hidden once to test the groups; 0: no test.
    """
    if many < 1:
        raise BadValue("aggregate/em_mixture: many", many, "a whole number from 1")
    if not l2 > 0:
        raise BadValue("aggregate/em_mixture: l2", l2, "a number above 0", "A side that never lost has no finite strength without it.")
    ground = Ground.of(votes, level, features)

    def losses(seen: Opinions, hidden: Opinions) -> tuple[float, float]:
        lost = []
        for count in (many, 1):
            model = groups(ground.design, seen, many=count, assign=assign, l2=l2, restarts=restarts, seed=seed)
            z = ground.design.differences(model.rewards).take(hidden.pair, axis=0)
            p = (np.exp(log_likelihood(z, np.ones((len(z), 1)))) * model.member.take(hidden.who, axis=0)).sum(axis=1)
            p = p.clip(1e-12, 1 - 1e-12)
            lost.append(-float((hidden.said * np.log(p) + (1 - hidden.said) * np.log1p(-p)).mean()))
        return lost[0], lost[1]

    tested = held_out(ground, held_out_share, seed, losses) if many > 1 else {}
    model = groups(ground.design, ground.opinions, many=many, assign=assign, l2=l2, restarts=restarts, seed=seed)
    group = model.member.argmax(axis=1)
    z = ground.design.differences(model.rewards)[ground.opinions.pair, group.take(ground.opinions.who)]
    rows, worst = group_rows(ground, z, group, model.share, model.rewards)
    belongs = {
        "annotator": ground.cast.annotators,
        "votes": ground.cast.votes_of,
        "group": group,
        "probability": model.member.max(axis=1),
    }
    alive = (rows["annotators"] > 0) & (model.share >= least_share)  # a group of nobody is nobody to serve
    alive |= not alive.any()
    share = model.share[alive] / model.share[alive].sum()
    return finish(ground, chance(ground, model.rewards[:, alive]), share, welfare, rows, worst, belongs, {"rounds": model.rounds, **tested})
