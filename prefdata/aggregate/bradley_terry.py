"""Aggregate: strengths of responses or of models from all their comparisons."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.stats import Reals
from prefdata.core.strengths import Ints, outcome
from prefdata.core.strengths import bradley_terry as fit


@method(
    version=1,
    subject="pair",
    needs=("a_id", "b_id", "a_model", "b_model"),
    paper="Bradley & Terry 1952; Davidson 1970; Rao & Kupper 1967",
)
def bradley_terry(
    pool: pl.DataFrame,
    *,
    of: list[str] | None = None,
    level: Literal["prompt", "model"] = "prompt",
    ties: Literal["davidson", "rao_kupper", "half"] = "davidson",
    l2: float = 0.1,
    infer: bool = False,
) -> pl.DataFrame:
    """P(a better) and P(tie) from log-strengths fitted to all votes; the winner is the likeliest outcome, null where two lead.

    margin = |P(a) - P(b)|, confidence = P of the likeliest outcome, votes = votes on the pair itself. A "both bad" vote is a tie.
    Strengths compare within a connected component only: there is no label across components, for a model against itself
    or where a model is not known. One tie parameter is fitted for all.

    Args:
        of: annotator ids or kinds (human, llm, verifier, imported, ...) whose votes count, or, with a minus before them, do not:
            [human, "-imported:my_set"] leaves out the label that came with the pairs of my_set; null: everyone's.
        level: what has a strength: each response among those of its prompt, or each model over all prompts.
        ties: how ties enter: with a probability of their own (davidson, rao_kupper), or as half a win each (half; P(tie) is 0).
        l2: ridge on log-strengths, as if they were drawn with standard deviation 1/sqrt(l2). Above 0, because a
            response that won every vote has no finite strength otherwise, and its P would be 1 after a single vote.
        infer: also label pairs nobody voted on, from the strengths of their two sides.
    """
    if not l2 > 0:
        raise BadValue("aggregate/bradley_terry: l2", l2, "a number above 0", "A side that never lost has no finite strength without it.")
    first, second, items = _items(pool, ("a_id", "b_id") if level == "prompt" else ("a_model", "b_model"))
    known = (first != second) & (first >= 0) & (second >= 0)
    wins, losses = (pool[name].cast(pl.Float64).to_numpy() for name in ("n_a", "n_b"))
    tied = (pool["n_tie"] + pool["n_both_bad"]).cast(pl.Float64).to_numpy()
    model = fit(first[known], second[known], wins[known], losses[known], tied[known], items=items, ties_as=ties, l2=l2)
    known[known] = model.component[first[known]] == model.component[second[known]]
    difference = np.where(known, model.strength[first] - model.strength[second], np.nan) if items else np.full(pool.height, np.nan)
    p_a, p_tie = outcome(difference, ties, model.tie)
    return _labels(pool, np.where(known, p_a, np.nan), np.where(known, p_tie, np.nan)).filter(pl.lit(infer) | (pl.col("votes") > 0))


def _items(pool: pl.DataFrame, sides: tuple[str, str]) -> tuple[Ints, Ints, int]:
    """Both sides as item numbers, -1 for an unnamed model, and how many items there are."""
    names = pl.concat([pool[sides[0]], pool[sides[1]].alias(sides[0])])
    numbers = names.replace("", None).drop_nulls().unique(maintain_order=True).to_frame("name").with_row_index("at")
    at = names.to_frame("name").join(numbers, on="name", how="left", maintain_order="left")["at"].cast(pl.Int64).fill_null(-1).to_numpy()
    return at[: pool.height], at[pool.height :], numbers.height


def _labels(pool: pl.DataFrame, p_a: Reals, p_tie: Reals) -> pl.DataFrame:
    chances = pl.DataFrame({"a": p_a, "b": 1 - p_a - p_tie, "tie": p_tie}).fill_nan(None)
    top = pl.max_horizontal("a", "b", "tie")
    leads = [pl.col(name) >= top - 1e-9 for name in chances.columns]
    winner = pl.coalesce(pl.when(lead).then(pl.lit(name)) for name, lead in zip(chances.columns, leads, strict=True))
    return chances.select(
        pool["id"].alias("pair_id"),
        pl.col("a").alias("p_a"),
        pl.col("tie").alias("p_tie"),
        pl.when(pl.sum_horizontal(leads) == 1).then(winner).alias("winner"),
        (pl.col("a") - pl.col("b")).abs().alias("margin"),
        top.alias("confidence"),
        pool["n"].alias("votes"),
    )
