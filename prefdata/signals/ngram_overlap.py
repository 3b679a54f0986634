"""Signal: how many word sequences the two responses of a pair have in common."""

from __future__ import annotations

import polars as pl

from prefdata.core import shingles
from prefdata.core.errors import BadValue
from prefdata.core.method import method


@method(version=1, subject="pair", needs=("a_text", "b_text"), gives={"ngram_overlap": "Jaccard similarity, 0 to 1"})
def ngram_overlap(rows: pl.DataFrame, *, n: int = 2) -> pl.DataFrame:
    """Jaccard similarity of the two responses' sets of word n-grams: 1 for the same set, 0 for nothing in common.

    Letter case and punctuation do not count. Null where neither response has n words.

    Args:
        n: words in an n-gram, 1 to 20.
    """
    if not 1 <= n <= 20:
        raise BadValue("signals/ngram_overlap: n", n, "1 to 20")
    a, b = (shingles.ngrams(shingles.column(rows[name]), n) for name in ("a_text", "b_text"))
    return pl.DataFrame({"ngram_overlap": pl.Series(shingles.common(a, b).jaccard, nan_to_null=True)})
