"""Acquire: pairs on which the votes are split."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core.method import method


@method(version=1, subject="pair", needs=("pair_id",))
def disagreement(
    rows: pl.DataFrame,
    *,
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    measure: Literal["entropy", "closeness"] = "entropy",
) -> pl.DataFrame:
    """The pairs whose votes are most split; pairs without votes, or on which all voices agree, are left out.

    priority is the entropy of the shares of a, b and tie ("both bad" is a tie) over its maximum ln 3, or closeness
    1 - |votes a - votes b| / votes; equals go by the other measure, then by pair id. It needs no aggregate step.

    Args:
        to: who is asked.
        most: at most this many pairs.
        measure: entropy counts ties as a third opinion; closeness asks only how even a and b are.
    """
    votes = rows.filter(pl.col("n") > 0).with_columns(tied=pl.col("n_tie") + pl.col("n_both_bad"))
    shares = [pl.col(name) / pl.col("n") for name in ("n_a", "n_b", "tied")]
    entropy = -pl.sum_horizontal(pl.when(p > 0).then(p * p.log()).otherwise(0.0) for p in shares) / pl.lit(3.0).log()
    closeness = 1 - (shares[0] - shares[1]).abs()
    # Rounded, so that 1 against 2 votes and 2 against 1 are equals to the last bit.
    measured = votes.with_columns(entropy=entropy.round(9), closeness=closeness.round(9)).filter(pl.col("entropy") > 0)
    other = "closeness" if measure == "entropy" else "entropy"
    split = measured.sort(measure, other, "pair_id", descending=[True, True, False]).head(most)
    reason = pl.format("of {} votes {} for a, {} for b, {} neither", "n", "n_a", "n_b", "tied")
    return split.select("pair_id", pl.lit(to).alias("send_to"), pl.col(measure).alias("priority"), reason.alias("reason"))
