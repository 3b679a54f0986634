"""Signal: how offensive a response is worded."""

from __future__ import annotations

from importlib import import_module

import polars as pl

from prefdata.core.errors import NeedsExtra
from prefdata.core.method import method


@method(version=1, subject="response", needs=("text",), gives={"toxicity": "probability"})
def toxicity(rows: pl.DataFrame) -> pl.DataFrame:
    """Probability that a response is offensive, by the linear model that alt-profanity-check ships (English; runs offline).

    It knows offensive words, not harm: a polite text about a crime scores low, a quoted insult high, and "kill the process"
    0.4. Null for a text without a letter. Needs  pip install 'prefdata[toxicity]'.
    """
    worded = rows["text"].str.contains(r"\p{L}").fill_null(False)
    scores = pl.Series("toxicity", [None] * rows.height, dtype=pl.Float64)
    if worded.any():
        try:
            model = import_module("profanity_check")
        except ImportError:
            raise NeedsExtra("signals/toxicity", "toxicity") from None
        scores = scores.scatter(worded.arg_true(), model.predict_prob(rows["text"].filter(worded).to_list()))
    return scores.to_frame()
