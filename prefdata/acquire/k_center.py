"""Acquire: pairs unlike those that have been judged, and unlike each other."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import routing, sketch
from prefdata.core.method import method


@method(
    version=1,
    subject="pair",
    needs=("pair_id", "prompt", "a_text", "b_text"),
    paper="Core-set: Sener & Savarese 2018 (1708.00489)",
)
def k_center(
    rows: pl.DataFrame,
    seed: int,
    *,
    to: Literal["human", "llm"] = "human",
    most: int = 100,
    enough: int = 1,
    among: int = 50_000,
) -> pl.DataFrame:
    """Greedy k-center: again and again the pair farthest from all that were judged or chosen before it.

    Distance is 1 less the cosine of hashed words and word pairs of prompt and responses, weighted by rarity; no model is
    needed, and meaning beyond shared words is not seen. priority is the distance at the moment of choice. The first pair of a
    pool without judged ones is the one nearest to the pool's mean. Pairs without words, and copies (distance 0), are left out.

    Args:
        to: who is asked.
        most: at most this many pairs.
        enough: a pair with so many votes by those who are asked is judged: a centre, and not asked for again.
        among: of a larger pool, so many open and so many judged pairs are drawn and looked at.
    """
    rows, is_open = routing.thinned(rows, to, enough, seed, among)
    vectors = sketch.of_pairs(rows)
    places = np.flatnonzero(is_open & vectors.any(axis=1))
    pool = vectors[places]
    judged = vectors[~is_open]
    if len(judged):
        close = sketch.nearest(judged, pool, 1)[1][:, 0]
    else:
        close = np.full(len(pool), -1.0, dtype=np.float32)
    picked, far = sketch.farthest(pool, close, most)
    reason = ["the most typical pair" if d >= 2 else f"{1 - d:.0%} like the nearest pair that was judged or chosen before" for d in far]
    return routing.queue(rows[places[picked]], np.minimum(far, 1), reason, to)
