"""Aggregate: how often a response beats the others."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core.games import Games, standings, told
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.ranking import circles, win_rates


@method(version=1, subject="pair", needs=("a_id", "b_id", "a_model", "b_model"), paper="SPO: Swamy et al. 2024 (2401.04056)")
def win_rate(
    pool: pl.DataFrame, *, of: list[str] | None = None, level: Literal["prompt", "model"] = "prompt", infer: bool = False
) -> Labels:
    """The side with the higher mean share of wins over those it met; no scale is assumed, so circles do no harm.

    A side's rate is the mean over its opponents of its share of wins against each, itself left out and ties as half.
    p_a = (1 + rate of a - rate of b) / 2, which for two responses is the share of votes for a; P(tie) is 0. Rates compare only
    within a group that met one another, directly or by way of others. The step's report says how many triples run in
    circles (x over y over z over x).

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        level: what has a rate: each response among those of its prompt, or each model over all prompts.
        infer: also label pairs nobody voted on, from the rates of their two sides.
    """
    games = Games.of(pool, level)
    rates = win_rates(games.edges)
    p_a = (1 + games.differences(rates)) / 2
    frame = label_frame(pool["id"], p_a, p_a * 0, pool["n"]).filter(pl.lit(infer) | (pl.col("votes") > 0))
    found = circles(games.edges)
    detail = {} if found is None else {"circular_triples": found.circular, "triples": found.triples}
    if level == "model":
        detail |= table("models", standings(games, win_rate=rates), by="win_rate")
    return Labels(frame, {**detail, **notes(*told(games, level), undecided(frame))})
