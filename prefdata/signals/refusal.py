"""Signal: whether a response declines to help."""

from __future__ import annotations

import polars as pl

from prefdata.core.method import method
from prefdata.core.refusals import is_refusal


@method(version=1, subject="response", needs=("text",), gives={"refusal": "1 or 0"})
def refusal(rows: pl.DataFrame) -> pl.DataFrame:
    """1 where a response opens by declining, by its wording ("I'm sorry, but I can't help with that"), else 0; null for an empty one.

    Ten languages, best in English; see core/refusals.py for what counts. Whether declining was right is another question.
    """
    return pl.DataFrame({"refusal": is_refusal(rows["text"]).cast(pl.Int8)})
