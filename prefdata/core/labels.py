"""What an aggregator gives: one label per pair, and what it learned about annotators, models and groups on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from prefdata.core.stats import Reals

CLASSES = ("a", "b", "tie")
LISTED = 1000
"""At most so many annotators or models are listed in a step's report, those with the most votes."""
EQUAL = 1e-9
"""Two outcomes this close lead together, so that rounding breaks no tie."""


@dataclass(frozen=True)
class Labels:
    """The labels of an aggregator with more to tell than labels.

    Attributes:
        frame: pair_id, p_a, p_tie, winner, margin, confidence, votes; one row per labelled pair.
        detail: for the step's report: counts, tables (lists of rows) and `notes`, sentences on what catches the eye.
    """

    frame: pl.DataFrame
    detail: Mapping[str, Any] = field(default_factory=dict)


def label_frame(pair_id: pl.Series, p_a: Reals, p_tie: Reals, votes: pl.Series | Reals, confidence: Reals | None = None) -> pl.DataFrame:
    """Labels from P(a better) and P(tie): the winner is the likeliest outcome, null where two lead or nothing is known (NaN).

    margin = |P(a) - P(b)|; confidence = P of the likeliest outcome unless given.
    """
    chances = pl.DataFrame({"a": p_a, "b": 1 - p_a - p_tie, "tie": p_tie}, nan_to_null=True)
    top = pl.max_horizontal("a", "b", "tie")
    leads = [pl.col(name) >= top - EQUAL for name in CLASSES]
    winner = pl.coalesce(pl.when(lead).then(pl.lit(name)) for name, lead in zip(CLASSES, leads, strict=True))
    sure = top if confidence is None else pl.lit(pl.Series(confidence, dtype=pl.Float64, nan_to_null=True))
    return chances.select(
        pair_id.alias("pair_id"),
        pl.col("a").alias("p_a"),
        pl.col("tie").alias("p_tie"),
        pl.when(pl.sum_horizontal(leads) == 1).then(winner).alias("winner"),
        (pl.col("a") - pl.col("b")).abs().alias("margin"),
        sure.alias("confidence"),
        pl.Series("votes", votes).cast(pl.Int64),
    )


def table(name: str, columns: Mapping[str, Any], by: str = "votes", most: int = LISTED) -> dict[str, Any]:
    """Rows with votes for a step's report under `name`, the largest `by` first; how many were left out stands beside them."""
    frame = pl.DataFrame(columns, nan_to_null=True).filter(pl.col("votes") > 0).sort(by, descending=True, maintain_order=True)
    whole = [name for name in ("votes", "wins", "losses", "ties", "judged") if name in frame.columns]
    rounded = frame.head(most).with_columns(pl.col(whole).cast(pl.Int64)).with_columns(pl.col(pl.Float64).round(6))
    left = frame.height - rounded.height
    return {name: rounded.to_dicts(), **({f"{name}_left_out": left} if left else {})}


def notes(*lines: str | None) -> dict[str, list[str]]:
    """The `notes` entry of a report; nothing where there is nothing to say."""
    said = [line for line in lines if line]
    return {"notes": said} if said else {}


def names(listed: Iterable[Any], most: int = 5) -> str:
    """Up to `most` names for a sentence, and how many more there are."""
    every = [str(name) for name in listed]
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def undecided(frame: pl.DataFrame) -> str | None:
    """A sentence on pairs without a winner."""
    none = frame["winner"].null_count()
    return f"{none:,} of {frame.height:,} pairs have no winner: two outcomes lead together, or nothing is known." if none else None


def one_hot(labels: Any, p: Reals) -> Reals:
    """Rows of `p` replaced where a label (0, 1, 2, or -1 for none) is known for sure."""
    known = labels >= 0
    fixed: Reals = p.copy()
    fixed[known] = np.eye(p.shape[1])[labels[known]]
    return fixed
