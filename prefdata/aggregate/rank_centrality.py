"""Aggregate: where a walk that follows the votes spends its time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.games import Games, standings, told
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.ranking import rank_centrality as scores


@method(
    version=1, subject="pair", needs=("a_id", "b_id", "a_model", "b_model"), paper="Rank Centrality: Negahban, Oh & Shah 2012 (1209.1688)"
)
def rank_centrality(
    pool: pl.DataFrame,
    *,
    of: list[str] | None = None,
    level: Literal["prompt", "model"] = "prompt",
    prior: float = 0.5,
    infer: bool = False,
) -> Labels:
    """P(a) = time on a / (time on a + time on b) of a random walk that moves from an item to those that beat it.

    Ties are half a win for each side, and P(tie) is 0. Times compare only within a group that met one another, directly or by
    way of others: there is no label across groups.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        level: what has a score: each response among those of its prompt, or each model over all prompts.
        prior: wins added to both sides of every pair that met, above 0: the walk would never leave an item that lost nothing.
        infer: also label pairs nobody voted on, from the scores of their two sides.
    """
    if not prior > 0:
        raise BadValue("aggregate/rank_centrality: prior", prior, "a number above 0", "A side that never lost would take all the time.")
    games = Games.of(pool, level)
    score = scores(games.edges, prior)
    p_a = 0.5 * (1 + np.tanh(games.differences(score) / 2))
    frame = label_frame(pool["id"], p_a, p_a * 0, pool["n"]).filter(pl.lit(infer) | (pl.col("votes") > 0))
    detail = table("models", standings(games, log_share=score), by="log_share") if level == "model" else {}
    return Labels(frame, {**detail, **notes(*told(games, level), undecided(frame))})
