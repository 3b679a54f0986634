"""Signal: how much a response repeats itself."""

from __future__ import annotations

import polars as pl

from prefdata.core import shingles
from prefdata.core.errors import BadValue
from prefdata.core.method import method


@method(
    version=1,
    subject="response",
    needs=("text",),
    gives={"repeated_ngrams": "share, 0 to 1", "repeated_lines": "share, 0 to 1"},
    paper="distinct-n: Li et al. 2016, arXiv:1510.03055; repeated lines: Rae et al. 2021 (Gopher), arXiv:2112.11446",
)
def repetition(rows: pl.DataFrame, *, n: int = 4) -> pl.DataFrame:
    """Share of word n-grams that stand earlier in the same response (1 - distinct-n), and of lines that do.

    Empty lines do not count, nor does white space around a line. Null where a response has no n-gram, or no line.

    Args:
        n: words in an n-gram, 1 to 20.
    """
    if not 1 <= n <= 20:
        raise BadValue("signals/repetition: n", n, "1 to 20")
    grams = shingles.ngrams(shingles.column(rows["text"]), n)
    lines = rows["text"].str.split("\n").list.eval(pl.element().str.strip_chars().replace("", None).drop_nulls())
    counts = pl.DataFrame(
        {"grams": grams.counts, "kinds": shingles.sets(grams).counts, "lines": lines.list.len(), "line_kinds": lines.list.n_unique()}
    )
    return counts.select(
        pl.when(pl.col("grams") > 0).then(1 - pl.col("kinds") / pl.col("grams")).alias("repeated_ngrams"),
        pl.when(pl.col("lines") > 0).then(1 - pl.col("line_kinds") / pl.col("lines")).alias("repeated_lines"),
    )
