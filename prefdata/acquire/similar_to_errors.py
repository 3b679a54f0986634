"""Acquire: pairs like those on which people corrected the AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import routing, sketch
from prefdata.core.cast import leaders
from prefdata.core.labels import CLASSES
from prefdata.core.method import method


@method(
    version=1,
    subject="pair",
    needs=("pair_id", "prompt", "a_text", "b_text"),
    paper="Skywork-Reward-V2: Liu et al. 2025 (2507.01352)",
)
def similar_to_errors(
    rows: pl.DataFrame,
    seed: int,
    *,
    ai: Sequence[str] = (),
    k_most: int = 8,
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    enough: int = 1,
    among: int = 50_000,
) -> pl.DataFrame:
    """The nearest open pairs of every pair on which the AI erred or was unsure.

    Of a pair that people have judged, p is the share of the AI's votes that say what most people say; it fetches its
    ceil(k_most (1 - p)) nearest open pairs: none where the AI was right for sure, k_most where it was plainly wrong. Nearness
    is the cosine of hashed words and word pairs of prompt and responses, weighted by rarity, instead of the paper's embedding
    of prompt and attributes. priority is the cosine to the nearest such pair.

    Args:
        ai: annotators or kinds whose votes are the AI's; none named: every machine.
        k_most: pairs fetched for a pair on which all the AI's votes are wrong.
        to: who is asked.
        most: at most this many pairs.
        enough: pairs with at least so many votes by those who are asked are not fetched.
        among: of a larger pool, so many open and so many judged pairs are drawn and looked at.
    """
    rows, is_open = routing.thinned(rows, to, enough, seed, among)
    said = routing.spoken(rows)
    votes = routing.tally(said.filter(routing.named(ai)), rows.height)
    truth = leaders(routing.tally(said.filter(routing.people()), rows.height))
    label = leaders(votes)
    known = np.flatnonzero((truth >= 0) & (votes.sum(axis=1) > 0))
    right = votes[known, truth[known]] / votes[known].sum(axis=1)
    fetch = np.ceil(k_most * (1 - right) - 1e-9).astype(np.int64)
    errors, fetch = known[fetch > 0], fetch[fetch > 0]
    if not len(errors) or not is_open.any():
        return routing.queue(rows.clear(), [], [], to)
    vectors, at = sketch.of_pairs(rows), np.flatnonzero(is_open)
    near, close = sketch.nearest(vectors[at], vectors[errors], int(fetch.max()))
    fetched = (np.arange(near.shape[1]) < fetch[:, None]) & (close > 0)
    error, rank = np.nonzero(fetched)
    found = pl.DataFrame({"place": near[error, rank], "error": errors[error], "close": close[error, rank].astype(np.float64)})
    found = found.sort("place", "close", "error", descending=[False, True, False]).unique("place", keep="first", maintain_order=True)
    ids, said_by = rows["pair_id"], (*CLASSES, "nothing clear")
    reason = [
        f"{cosine:.0%} like pair {ids[of][:8]}, of which people say {said_by[truth[of]]} and the AI {said_by[label[of]]}"
        for of, cosine in found.select("error", "close").iter_rows()
    ]
    return routing.queue(rows[at[found["place"]]], found["close"], reason, to, most)
