"""Export: one flat table of pairs, for notebooks and spreadsheets."""

from __future__ import annotations

import polars as pl

from prefdata.core.method import method


@method(
    version=1,
    needs=(
        "pair_id", "prompt_id", "source", "strategy", "prompt", "messages", "chosen_text", "rejected_text", "chosen_id", "rejected_id",
        "chosen_model", "rejected_model", "prompt_chars", "chosen_chars", "rejected_chars", "p_a", "p_tie", "winner", "margin",
        "confidence", "votes",
    ),
    columns={
        "pair_id": "identity of the pair",
        "prompt_id": "identity of the prompt",
        "source": "where the pair came from",
        "strategy": "what made the pair, where no file did",
        "prompt": "text of the last message",
        "messages": "the whole prompt as JSON text",
        "chosen": "the better response",
        "rejected": "the other response",
        "chosen_id": "identity of the response",
        "rejected_id": "identity of the response",
        "chosen_model": "who wrote it",
        "rejected_model": "who wrote it",
        "prompt_chars": "characters of all prompt messages",
        "chosen_chars": "characters",
        "rejected_chars": "characters",
        "p": "probability that chosen is the better one, by the labels",
        "p_tie": "probability of a tie, by the labels",
        "margin": "label margin, 0 to 1",
        "confidence": "probability of the likeliest outcome",
        "votes": "votes behind the label",
    },
)  # fmt: skip
def pairs(rows: pl.DataFrame) -> pl.DataFrame:
    """Every narrow column of a pair beside its texts, one row a pair; which side is a and which b is gone, chosen and rejected remain."""
    p = pl.when(pl.col("winner") == "a").then("p_a").otherwise(1 - pl.col("p_a") - pl.col("p_tie")).alias("p")
    columns = pairs.__dict__["prefdata"]["columns"]
    return rows.with_columns(p).rename({"chosen_text": "chosen", "rejected_text": "rejected"}).select(*columns)
