"""Pairing: the best-scored response of a prompt against the worst."""

from __future__ import annotations

import polars as pl

from prefdata.core.method import method


@method(version=1, subject="response", needs=("score", "text_hash"))
def best_worst(rows: pl.DataFrame, *, min_gap: float = 0.0) -> pl.DataFrame:
    """One pair per prompt: highest score against lowest; no pair where all scores are equal or only one response has one.

    Among equal scores the earlier response stands for them; a response that repeats the best one's text is passed over.

    Args:
        min_gap: smallest difference of the two scores that makes a pair, in the scores' own unit.
    """
    scored = rows.drop_nulls("score")
    best = scored.sort("score", descending=True, maintain_order=True).unique("prompt_id", keep="first", maintain_order=True)
    others = scored.join(best.select("prompt_id", pl.col("score").alias("top"), pl.col("text_hash").alias("best_text")), on="prompt_id")
    others = others.filter((pl.col("score") < pl.col("top")) & (pl.col("text_hash") != pl.col("best_text")))
    worst = others.sort("score", maintain_order=True).unique("prompt_id", keep="first", maintain_order=True)
    pairs = rows.select("prompt_id").unique(maintain_order=True).join(worst, on="prompt_id", maintain_order="left")
    pairs = pairs.filter(pl.col("top") - pl.col("score") >= min_gap).join(
        best.select("prompt_id", pl.col("response_id").alias("first")), on="prompt_id", maintain_order="left"
    )
    return pairs.select("first", pl.col("response_id").alias("second"))
