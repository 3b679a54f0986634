"""Signal: how much must be edited to turn one response of a pair into the other."""

from __future__ import annotations

from typing import Literal

import polars as pl
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from prefdata.core.method import method


@method(version=1, subject="pair", needs=("a_text", "b_text"), gives={"edit_distance": "share of the longer text, 0 to 1"})
def edit_distance(rows: pl.DataFrame, *, unit: Literal["chars", "words"] = "chars") -> pl.DataFrame:
    """Levenshtein distance over the length of the longer text: 0 for equal texts, 1 where nothing is in common.

    Args:
        unit: what is inserted, deleted or replaced: characters, or words between white space.
    """
    sides = [rows[name] for name in ("a_text", "b_text")]
    texts = [side.to_list() if unit == "chars" else side.str.extract_all(r"\S+").to_list() for side in sides]
    return pl.DataFrame({"edit_distance": cpdist(*texts, scorer=Levenshtein.normalized_distance, workers=-1)})
