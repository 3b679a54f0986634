"""Acquire: pairs drawn by chance."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core import routing
from prefdata.core.method import method


@method(version=1, subject="pair", needs=("pair_id",))
def random(
    rows: pl.DataFrame, seed: int, *, n: int = 100, to: Literal["human", "llm"] = "human", enough: int | None = None
) -> pl.DataFrame:
    """n pairs, each as likely as any other; a pair's draw depends on its id and the seed, so a growing pool keeps most of them.

    Args:
        n: how many; fewer where the pool is smaller.
        to: who is asked.
        enough: pairs with at least so many votes by those who are asked are left out; null: none are.
    """
    return routing.by_chance(routing.still_open(rows, to, enough), seed, "drawn at random", to, n)
