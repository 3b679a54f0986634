"""Pairing: every two responses of a prompt."""

from __future__ import annotations

import polars as pl

from prefdata.core.method import method


@method(version=1, subject="response", needs=("text",))
def all_pairs(rows: pl.DataFrame, *, most: int | None = None) -> pl.DataFrame:
    """Every two responses of one prompt; two that say the same text make no pair.

    Args:
        most: at most this many pairs per prompt, in the order of the responses; null: all of them.
    """
    numbered = rows.with_row_index("at").select("at", "prompt_id", "response_id", "text")
    pairs = numbered.join(numbered, on="prompt_id", suffix="_2").filter(
        (pl.col("at") < pl.col("at_2")) & (pl.col("text") != pl.col("text_2"))
    )
    pairs = pairs.sort("at", "at_2")
    if most is not None:
        pairs = pairs.filter(pl.int_range(pl.len()).over("prompt_id") < most)
    return pairs.select(pl.col("response_id").alias("first"), pl.col("response_id_2").alias("second"))
