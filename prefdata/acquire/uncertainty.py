"""Acquire: pairs of which the labels, or a model, are least sure."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import routing
from prefdata.core.method import method
from prefdata.core.routing import Column


@method(version=1, subject="pair", needs=("pair_id",))
def uncertainty(
    rows: pl.DataFrame,
    *,
    by: Column = "margin",
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    enough: int | None = None,
) -> pl.DataFrame:
    """The pairs with the least sure label, or with a model's margin nearest to 0; pairs without a value are left out.

    priority is 1 - margin or 1 - confidence of the newest labels, both in [0, 1]; for any other column, such as the signals
    score_margin or implicit_margin, 1 - 2 |sigmoid(value) - 1/2|: 1 at a margin of 0. Equals go by pair id.

    Args:
        by: margin or confidence of the labels, or a number of the pair that is 0 where neither side leads.
        to: who is asked.
        most: at most this many pairs.
        enough: pairs with at least so many votes by those who are asked are left out; null: none are.
    """
    pool = routing.still_open(rows, to, enough)
    value = pool[by].cast(pl.Float64).to_numpy().astype(np.float64)
    unsure = 1 - value if by in ("margin", "confidence") else 1 - np.abs(np.tanh(value / 2))
    return routing.queue(pool, unsure, [f"{by} {one:.3g}" for one in value], to, most)
