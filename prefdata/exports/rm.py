"""Export: whole conversations, chosen and rejected, as TRL's RewardTrainer reads them."""

from __future__ import annotations

import polars as pl

from prefdata.core.conversation import as_chat
from prefdata.core.method import method


@method(
    version=1,
    needs=("pair_id", "prompt", "messages", "chosen_text", "rejected_text", "source", "margin"),
    columns={
        "chosen": "the prompt and the better response: chat messages, or one text",
        "rejected": "the prompt and the other response",
        "margin": "label margin, 0 to 1",
        "pair_id": "the pair it comes from",
        "source": "where the pair came from",
    },
    paper="Llama 2 (margin), arXiv:2307.09288",
)
def rm(rows: pl.DataFrame, *, conversational: bool | None = None, separator: str = "\n\n") -> pl.DataFrame:
    """Columns chosen and rejected, the prompt inside both ("implicit prompt"), and the label's margin.

    Args:
        conversational: chat messages (true), plain text (false), or whatever the prompts are (null).
        separator: what stands between prompt and response in plain text.
    """
    split = rows.select(*as_chat(bool(conversational)), "margin", "pair_id", "source")
    if conversational:
        whole = [pl.concat_list("prompt", side).alias(side) for side in ("chosen", "rejected")]
    else:
        whole = [pl.concat_str("prompt", side, separator=separator).alias(side) for side in ("chosen", "rejected")]
    return split.select(*whole, "margin", "pair_id", "source")
