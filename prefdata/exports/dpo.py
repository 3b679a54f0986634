"""Export: preference pairs as TRL's DPOTrainer reads them."""

from __future__ import annotations

import polars as pl

from prefdata.core.conversation import as_chat
from prefdata.core.method import method


@method(
    version=1,
    needs=("pair_id", "prompt", "messages", "chosen_text", "rejected_text", "source", "margin", "p_a", "p_tie", "winner", "votes"),
    columns={
        "prompt": "text, or chat messages",
        "chosen": "the better response",
        "rejected": "the other response",
        "pair_id": "the pair it comes from",
        "source": "where the pair came from",
        "margin": "label margin, 0 to 1",
        "p": "probability that chosen is the better one, by the labels",
        "votes": "votes behind the label",
    },
    paper="DPO, arXiv:2305.18290",
)
def dpo(rows: pl.DataFrame, *, conversational: bool | None = None) -> pl.DataFrame:
    """Columns prompt, chosen, rejected; conversational when a prompt is, plus pair_id, source, margin, p and votes.

    Args:
        conversational: chat messages (true), plain text (false), or whatever the prompts are (null).
    """
    p = pl.when(pl.col("winner") == "a").then("p_a").otherwise(1 - pl.col("p_a") - pl.col("p_tie"))
    return rows.select(
        *as_chat(bool(conversational)),
        "pair_id",
        "source",
        "margin",
        p.alias("p"),
        "votes",
    )
