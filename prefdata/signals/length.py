"""Signal: how long a response is."""

from __future__ import annotations

import polars as pl

from prefdata.core.method import method
from prefdata.core.text import WORD


@method(
    version=1,
    subject="response",
    needs=("text",),
    gives={"length_chars": "characters", "length_words": "words", "length_lines": "lines"},
)
def length(rows: pl.DataFrame) -> pl.DataFrame:
    """Characters (code points), words and lines of a response; an empty text has 0 of each.

    A word is what stands between spaces and holds a letter or digit, or one Chinese or Japanese character.
    """
    text = pl.col("text")
    lines = text.str.count_matches("\n") + (text.str.len_bytes() > 0) - text.str.ends_with("\n").cast(pl.UInt32)
    return rows.select(
        text.str.len_chars().alias("length_chars"),
        text.str.count_matches(WORD).alias("length_words"),
        lines.alias("length_lines"),
    )
