"""Export: single responses with a thumb up or down, as TRL's KTOTrainer reads them."""

from __future__ import annotations

import polars as pl

from prefdata.core.conversation import as_chat
from prefdata.core.method import method


@method(
    version=1,
    needs=("pair_id", "prompt", "messages", "chosen_text", "rejected_text", "source"),
    columns={
        "prompt": "text, or chat messages",
        "completion": "one response",
        "label": "true for the chosen one of its pair, false for the rejected",
        "pair_id": "the pair it comes from",
        "source": "where the pair came from",
    },
    paper="KTO, arXiv:2402.01306",
)
def kto(rows: pl.DataFrame, *, conversational: bool | None = None) -> pl.DataFrame:
    """Two rows per pair, chosen then rejected; a response that stands in several pairs comes once for each.

    Args:
        conversational: chat messages (true), plain text (false), or whatever the prompts are (null).
    """
    both = rows.select(*as_chat(bool(conversational)), "pair_id", "source").with_row_index("at")
    sides = [both.select("at", "prompt", pl.col(side).alias("completion"), label, "pair_id", "source") for side, label in _SIDES.items()]
    return pl.concat(sides).sort("at", maintain_order=True).drop("at")


_SIDES = {"chosen": pl.lit(True).alias("label"), "rejected": pl.lit(False).alias("label")}
