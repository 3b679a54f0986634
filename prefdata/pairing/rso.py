"""Pairing: candidates that survive statistical rejection sampling."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import stats
from prefdata.core.errors import BadValue
from prefdata.core.method import method


@method(version=1, subject="response", needs=("score", "text_hash"), paper="RSO, arXiv:2309.06657, algorithm 1")
def rso(
    rows: pl.DataFrame, seed: int, *, accept: int = 8, beta: float = 0.5, form: Literal["first_round", "tournament"] = "first_round"
) -> pl.DataFrame:
    """Pairs of scored responses of a prompt that were accepted with probability exp((score - best) / beta).

    Passes go over what is left of a prompt's candidates until `accept` of them are accepted; best is the highest score still
    left, so that every pass accepts one. What is accepted follows the policy that is optimal for the score at strength beta,
    where the candidates follow the policy that sampled them. beta near 0 takes the best `accept`; a large beta draws evenly. The
    scores label the pairs by way of an aggregate step. Responses without a score are no candidates, and of a prompt with no more
    candidates than `accept` all are accepted. Two responses of the same text make no pair.

    Args:
        accept: responses to accept per prompt; the paper accepts 8 of 64.
        beta: temperature of the acceptance, in the scores' own unit, above 0.
        form: first_round: accepted ones in random order, the first with the second, the third with the fourth, ...: accept/2 pairs;
            tournament: the better one of each such pair goes on, round by round: accept - 1 pairs.
    """
    if accept < 2:
        raise BadValue("pairing/rso: accept", accept, "a whole number from 2")
    if not 0 < beta < float("inf"):
        raise BadValue("pairing/rso: beta", beta, "a number above 0")
    candidates = rows.drop_nulls("score").with_row_index("at").select("at", "prompt_id", "response_id", "text_hash", "score")
    order = pl.Series("order", stats.draws(candidates["response_id"].cast(pl.String), seed))
    entrants = _accepted(candidates.with_columns(order), seed, accept, beta).sort("prompt_id", "order", "at")
    rounds = []
    while not entrants.is_empty():
        pairs, entrants = _round(entrants)
        rounds.append(pairs)
        if form == "first_round":
            break
    met = pl.concat(rounds) if rounds else _round(entrants)[0]
    met = met.filter(pl.col("text_hash") != pl.col("text_hash_2")).sort("at", "at_2")
    return met.select(pl.col("response_id").alias("first"), pl.col("response_id_2").alias("second"))


def _accepted(candidates: pl.DataFrame, seed: int, accept: int, beta: float) -> pl.DataFrame:
    """The rejection sampling of all prompts at once; each pass accepts in the candidates' order until a prompt has enough."""
    kept: list[pl.DataFrame] = [candidates.clear()]
    left, need = candidates, candidates.select("prompt_id", need=pl.lit(accept, pl.Int64)).unique("prompt_id")
    for number in range(1, accept + 1):
        draw = pl.Series("draw", stats.draws(left["response_id"].cast(pl.String), seed + (number << 32)))
        gap = (pl.col("score") - pl.col("score").max().over("prompt_id")) / beta
        tried = left.with_columns(draw).with_columns(passed=pl.col("draw") < gap.exp()).join(need, on="prompt_id", maintain_order="left")
        passed = tried.filter("passed").filter(pl.int_range(pl.len()).over("prompt_id") < pl.col("need"))
        kept.append(passed.select(candidates.columns))
        need = need.join(passed.group_by("prompt_id").len("taken"), on="prompt_id", how="left").select(
            "prompt_id", need=pl.col("need") - pl.col("taken").fill_null(0).cast(pl.Int64)
        )
        open_ = need.filter(pl.col("need") > 0).select("prompt_id")
        left = left.join(passed.select("at"), on="at", how="anti").join(open_, on="prompt_id", how="semi").sort("at")
        if left.is_empty():
            break
    return pl.concat(kept)


def _round(entrants: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Neighbours of each prompt as pairs, and who goes on: the better one of each pair, the earlier one of equals, and who met nobody."""
    placed = entrants.with_columns(place=pl.int_range(pl.len()).over("prompt_id"), of=pl.len().over("prompt_id"))
    placed = placed.filter(pl.col("of") > 1).with_columns(game=pl.col("place") // 2)
    first, second = (placed.filter(pl.col("place") % 2 == side) for side in (0, 1))
    pairs = first.join(second, on=["prompt_id", "game"], suffix="_2", maintain_order="left")
    idle = first.join(second, on=["prompt_id", "game"], how="anti")
    losers = pl.Series("at", np.where(pairs["score"] >= pairs["score_2"], pairs["at_2"], pairs["at"]), dtype=placed.schema["at"])
    winners = pl.concat([first.join(pairs, on="at", how="semi"), second, idle]).filter(~pl.col("at").is_in(losers.implode()))
    return pairs, winners.sort("prompt_id", "order", "at").select(entrants.columns)
