"""Aggregate: a taste for every annotator between a few shared rewards."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.labels import Labels
from prefdata.core.lowrank import tastes
from prefdata.core.method import method
from prefdata.core.plural import Ground, chance, finish, group_rows, held_out
from prefdata.core.tastes import Opinions, log_likelihood


@method(version=1, subject="pair", needs=("a_model", "b_model"), paper="LoRe (2504.14439); PAL (2406.08469)")
def low_rank(
    votes: pl.DataFrame,
    seed: int,
    *,
    of: list[str] | None = None,
    rank: int = 2,
    level: Literal["model", "prompt"] = "model",
    features: list[str] | None = None,
    welfare: Literal["mean", "maxmin"] = "mean",
    l2: float = 0.1,
    taste_l2: float = 1.0,
    restarts: int = 2,
    held_out_share: float = 0.1,
) -> Labels:
    """Every annotator's reward is a mixture of a few shared rewards with shares of their own; the label is that of the mean taste.

    p_a = sigma(difference of the sides' rewards under the mean of all tastes); maxmin takes the groups of annotators who share
    a dominant reward, each with its mean taste, and gives the middle of their P(a) (see em_mixture). A tie is half a vote for
    each side, and P(tie) is 0. The step's report lists everybody's taste vector, the groups by dominant reward with the share
    of votes that their members' own rewards foresee, the worst-off group, and the log-loss on hidden votes with tastes and
    with one reward for all.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        rank: how many shared rewards.
        level: what has a strength in a reward: each model, or each response among those of its prompt.
        features: numbers of responses (chars, score, signals) that a reward weighs instead of strengths, in units of their spread.
        welfare: whose P(a) the label gives.
        l2: ridge on every strength or weight, above 0.
        taste_l2: ridge on tastes before they become shares, above 0: who has few votes stays near an even mixture.
        restarts: starts of the fit, the best of which counts.
        held_out_share: share of the votes that are hidden once to test the tastes; 0: no test.
    """
    if rank < 1:
        raise BadValue("aggregate/low_rank: rank", rank, "a whole number from 1")
    for name, value in (("l2", l2), ("taste_l2", taste_l2)):
        if not value > 0:
            raise BadValue(
                f"aggregate/low_rank: {name}", value, "a number above 0", "Without it some strengths or tastes have no finite value."
            )
    ground = Ground.of(votes, level, features)

    def losses(seen: Opinions, hidden: Opinions) -> tuple[float, float]:
        lost = []
        for count in (rank, 1):
            model = tastes(ground.design, seen, rank=count, l2=l2, taste_l2=taste_l2, restarts=restarts, seed=seed)
            each = ground.design.differences(model.rewards).take(hidden.pair, axis=0)
            z = (each * model.taste.take(hidden.who, axis=0)).sum(axis=1)
            lost.append(-float(log_likelihood(z, hidden.said).mean()))
        return lost[0], lost[1]

    tested = held_out(ground, held_out_share, seed, losses) if rank > 1 else {}
    model = tastes(ground.design, ground.opinions, rank=rank, l2=l2, taste_l2=taste_l2, restarts=restarts, seed=seed)
    group = model.taste.argmax(axis=1) if len(model.taste) else np.zeros(0, dtype=np.int64)
    size = np.bincount(group, minlength=rank)
    share = size / max(len(group), 1)
    total = np.stack([np.bincount(group, column, rank) for column in model.taste.T])
    typical = np.where(size > 0, total / np.maximum(size, 1), np.eye(rank))
    each = ground.design.differences(model.rewards).take(ground.opinions.pair, axis=0)
    z = (each * model.taste.take(ground.opinions.who, axis=0)).sum(axis=1)
    rows, worst = group_rows(ground, z, group, share, model.rewards)
    belongs = {
        "annotator": ground.cast.annotators,
        "votes": ground.cast.votes_of,
        "group": group,
        **{f"taste_{k}": column for k, column in enumerate(model.taste.T)},
    }
    if welfare == "mean":
        typical, weights = model.taste.mean(axis=0, keepdims=True).T if len(group) else np.full((rank, 1), 1 / rank), np.ones(1)
    else:
        typical, weights = typical[:, size > 0] if size.any() else typical, share[size > 0] if size.any() else share
    return finish(
        ground, chance(ground, model.rewards @ typical), weights, welfare, rows, worst, belongs, {"rounds": model.rounds, **tested}
    )
