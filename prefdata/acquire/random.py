"""Acquire: pairs drawn by chance."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core.method import method
from prefdata.core.stats import draws


@method(version=1, subject="pair", needs=("pair_id",))
def random(rows: pl.DataFrame, seed: int, *, n: int = 100, to: Literal["human", "llm"] = "human") -> pl.DataFrame:
    """n pairs, each as likely as any other; a pair's draw depends on its id and the seed, so a growing pool keeps most of them.

    Args:
        n: how many; fewer where the pool is smaller.
        to: who is asked.
    """
    drawn = rows.select("pair_id", pl.Series("priority", 1 - draws(rows["pair_id"], seed)))
    picked = drawn.sort("priority", "pair_id", descending=[True, False]).head(n)
    return picked.with_columns(pl.lit(to).alias("send_to"), pl.lit("drawn at random").alias("reason"))
