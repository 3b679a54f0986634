"""Signal: how much of the prompt a response takes up, and how much of it is the prompt."""

from __future__ import annotations

import numpy as np
import polars as pl

from prefdata.core import shingles
from prefdata.core.langid import is_frequent
from prefdata.core.method import method

_COPY = 6


@method(
    version=1,
    subject="response",
    needs=("prompt", "text"),
    gives={"prompt_coverage": "share, 0 to 1", "prompt_copied": "share, 0 to 1"},
)
def relevance(rows: pl.DataFrame) -> pl.DataFrame:
    """Share of the prompt's distinct content words that the response uses; share of the response's 6-grams copied from the prompt.

    The prompt is its last message; words so frequent that they tell the language are no content words. By words only: a
    good answer in other words covers little, so look at the extremes. Null where the prompt has no content word, and where
    the response has fewer than six words.
    """
    prompt, text = (shingles.column(rows[name]) for name in ("prompt", "text"))
    content = shingles.common(prompt.where(~is_frequent(prompt)), text)
    copied = shingles.common(shingles.ngrams(prompt, _COPY), shingles.ngrams(text, _COPY))
    with np.errstate(invalid="ignore"):
        shares = {"prompt_coverage": content.both / content.left, "prompt_copied": copied.both / copied.right}
    return pl.DataFrame({name: pl.Series(share, nan_to_null=True) for name, share in shares.items()})
