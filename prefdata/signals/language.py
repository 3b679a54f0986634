"""Signal: whether a response is in the right language."""

from __future__ import annotations

import polars as pl

from prefdata.core.errors import UnknownName
from prefdata.core.langid import languages
from prefdata.core.method import method
from prefdata.core.text import known_languages


@method(
    version=1,
    subject="response",
    needs=("prompt", "text"),
    gives={"language_expected": "1 or 0", "language_follows": "1 or 0"},
)
def language(rows: pl.DataFrame, *, expect: str = "en") -> pl.DataFrame:
    """Whether a response is in the expected language, and whether in that of the prompt's last message; null where that is not clear.

    A guess by script and frequent words over the first 600 characters, code blocks aside; a few words are not enough.

    Args:
        expect: ISO 639-1 code, such as en or zh.
    """
    if expect not in known_languages():
        raise UnknownName("language", expect, known_languages(), " of signals/language")
    guess = pl.DataFrame({"asked": languages(rows["prompt"]), "given": languages(rows["text"])})
    return guess.select(
        (pl.col("given") == expect).cast(pl.Int8).alias("language_expected"),
        (pl.col("given") == pl.col("asked")).cast(pl.Int8).alias("language_follows"),
    )
