"""Acquire: of the prompts whose answers are least settled, the pairs on which the policy is most certain."""

from __future__ import annotations

import math
from typing import Literal

import polars as pl

from prefdata.core import routing
from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.routing import Column, Sided


@method(
    version=1,
    subject="pair",
    needs=("pair_id", "prompt_id", "a_id", "b_id"),
    paper="APL: Muldrew et al. 2024 (2402.08114)",
)
def entropy_certainty(
    rows: pl.DataFrame,
    seed: int,
    *,
    logp: Sided = "logp",
    margin: Column = "implicit_margin",
    keep: float = 0.25,
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    enough: int | None = None,
) -> pl.DataFrame:
    """One pair per prompt: prompts by the entropy of their answers first, then pairs by how certain the policy is.

    A prompt's entropy is minus the mean of its responses' log-probabilities (summed over tokens, in nats, not divided by
    length); the share `keep` with the highest stays. priority is 2 |sigmoid(margin) - 1/2|, and the pair with the largest is
    taken: the paper labels the most certain pairs, not the least, so that labels correct what the policy is sure of. Where
    all margins are 0, as before any training, pairs are drawn by chance. Responses and pairs without a value are left out.

    Args:
        logp: the signal with a response's summed log-probability under the policy.
        margin: the signal with the difference of the two responses' implicit rewards.
        keep: share of the prompts that stays, in (0, 1]; the paper samples four times as many prompts as it labels.
        to: who is asked.
        most: at most this many pairs.
        enough: pairs with at least so many votes by those who are asked are left out; null: none are.
    """
    if not 0 < keep <= 1:
        raise BadValue("acquire/entropy_certainty: keep", keep, "a share above 0 and at most 1")
    sides = pl.concat(rows.select("prompt_id", response=f"{side}_id", logp=pl.col(f"{side}_{logp}").cast(pl.Float64)) for side in "ab")
    responses = sides.drop_nulls("logp").unique("response")
    entropy = responses.group_by("prompt_id").agg(entropy=-pl.col("logp").mean()).sort("entropy", "prompt_id", descending=[True, False])
    kept = entropy.head(math.ceil(keep * entropy.height))
    pool = routing.still_open(rows, to, enough).join(kept, on="prompt_id", maintain_order="left")
    pool = pool.with_columns(certain=(pl.col(margin).cast(pl.Float64) / 2).tanh().abs()).drop_nulls("certain")
    if not pool.is_empty() and pool["certain"].max() == 0:
        return routing.by_chance(pool, seed, "all margins are 0: drawn at random among the prompts of high entropy", to, most)
    pool = pool.sort("certain", "pair_id", descending=[True, False]).unique("prompt_id", keep="first", maintain_order=True)
    said = [f"entropy {h:.4g} nats, margin {m:.3g}" for h, m in pool.select("entropy", margin).iter_rows()]
    return routing.queue(pool, pool["certain"], said, to, most)
