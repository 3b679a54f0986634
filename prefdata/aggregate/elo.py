"""Aggregate: Elo ratings, free of the order of the votes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.games import Games, plays, standings, told
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.ranking import elo as rate


@method(version=1, subject="pair", needs=("a_model", "b_model"), paper="Elo 1978")
def elo(
    votes: pl.DataFrame,
    seed: int,
    *,
    of: list[str] | None = None,
    level: Literal["model", "prompt"] = "model",
    k: float = 4.0,
    initial: float = 1000.0,
    scale: float = 400.0,
    orders: int = 20,
) -> Labels:
    """P(a) = 1 / (1 + 10^((rating b - rating a) / scale)) from Elo ratings, the mean over random orders of the votes.

    One order's rating is partly an accident of the order; the step's report gives the standard deviation over the orders
    beside each model's rating. Ratings lag behind where votes are few: they start equal and move by at most k a vote,
    so differences are too small then. bradley_terry gives what Elo goes towards. A tie is half a win for each side, and
    P(tie) is 0.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        level: what has a rating: each model over all prompts, or each response among those of its prompt.
        k: largest change of a rating by one vote.
        initial: rating at the start.
        scale: difference of ratings at which the better side is expected to win ten times as often.
        orders: over how many random orders ratings are averaged.
    """
    for name, value in (("k", k), ("scale", scale), ("orders", orders)):
        if not value > 0:
            raise BadValue(f"aggregate/elo: {name}", value, "a number above 0")
    games, cast, prompt = Games.of_votes(votes, level)
    each = plays(games, cast, prompt)
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(len(each.points)) for _ in range(orders)])
    rating = rate(each.first, each.second, each.points, shuffled, items=games.items, k=k, initial=initial, scale=scale)
    p_a = 1 / (1 + 10 ** (-games.differences(rating.mean) / scale))
    frame = label_frame(games.pair_id, p_a, p_a * 0, games.votes)
    rows = standings(games, rating=rating.mean, spread=rating.spread) if level == "model" else None
    listed = table("models", rows, by="rating") if rows else {}
    return Labels(frame, {**listed, **notes(*told(games, level), undecided(frame))})
