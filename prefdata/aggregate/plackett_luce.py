"""Aggregate: strengths from whole rankings."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.games import Edges, Games, plays, standings, told
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.plackett import plackett_luce as fit
from prefdata.core.plackett import rankings


@method(version=1, subject="pair", needs=("a_model", "b_model"), paper="Luce 1959; Plackett 1975")
def plackett_luce(
    votes: pl.DataFrame, *, of: list[str] | None = None, level: Literal["prompt", "model"] = "prompt", l2: float = 0.1
) -> Labels:
    """P(a better) from log-strengths fitted to rankings, which a ballot gives where it orders all its items without ties.

    A ballot is all that one annotator said about one prompt, such as scores of its responses. One that compares each two of
    three or more items once, without ties or circles, is one ranking: K places, not K(K-1)/2 independent votes. All other
    votes count as pairs, a tie as half a win for each side. P(a) = sigma(difference), P(tie) is 0. With pairs only it is
    bradley_terry with ties as half.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        level: what has a strength: each response among those of its prompt, or each model over all prompts.
        l2: ridge on log-strengths, above 0: a side that won everything has no finite strength otherwise.
    """
    if not l2 > 0:
        raise BadValue("aggregate/plackett_luce: l2", l2, "a number above 0", "A side that never lost has no finite strength without it.")
    games, cast, prompt = Games.of_votes(votes, level)
    each = plays(games, cast, prompt)
    read = rankings(each.ballot, each.first, each.second, each.points, games.items)
    alone = read.ranked == 0
    first, second, points = each.first[alone], each.second[alone], each.points[alone]
    won, lost, tied = ((points == value).astype(np.float64) for value in (1.0, 0.0, 0.5))
    pairs = Edges.collect(first, second, won, lost, tied, games.items)
    strength = fit(read.orders, pairs, games.edges.component, l2=l2)
    p_a = 0.5 * (1 + np.tanh(games.differences(strength) / 2))
    frame = label_frame(games.pair_id, p_a, p_a * 0, games.votes)
    detail = {"rankings": sum(len(orders) for orders in read.orders), "votes_as_pairs": int(alone.sum())}
    listed = table("models", standings(games, strength=strength), by="strength") if level == "model" else {}
    return Labels(frame, {**detail, **listed, **notes(*told(games, level), undecided(frame))})
