"""Acquire: pairs on which the votes are split."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import routing
from prefdata.core.method import method
from prefdata.core.routing import To


@method(version=1, subject="pair", needs=("pair_id",))
def disagreement(
    rows: pl.DataFrame,
    *,
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    measure: Literal["entropy", "closeness", "judge_reward"] = "entropy",
    voices: Literal["all", "machines"] = "all",
    enough: int | None = None,
) -> pl.DataFrame:
    """The pairs whose votes are most split; pairs without votes, or on which all voices agree, are left out.

    priority is the entropy of the shares of a, b and tie ("both bad" is a tie) over its maximum ln 3, or closeness
    1 - |votes a - votes b| / votes; equals go by the other measure, then by pair id. It needs no aggregate step.
    judge_reward sets the language models' share for a (a tie is half) against the reward models': priority is the
    distance of the two, equals go by entropy; pairs that only one side has judged are left out.

    Args:
        to: who is asked.
        most: at most this many pairs.
        measure: entropy counts ties as a third opinion; closeness asks only how even a and b are; judge_reward is for a panel
            of judges and reward models.
        voices: whose votes count: everybody's or those of machines. For judge_reward it is machines either way.
        enough: pairs with at least so many votes by those who are asked are left out; null: none are.
    """
    pool = routing.still_open(rows, to, enough)
    if measure == "judge_reward":
        return _sides(pool, to, most)
    if voices == "machines":
        said = routing.spoken(pool).filter(~routing.people())
        counts = routing.tally(said, pool.height)
    else:
        counts = pool.select(a="n_a", b="n_b", tie=pl.col("n_tie") + pl.col("n_both_bad")).to_numpy().astype(np.float64)
    total = counts.sum(axis=1)
    split = np.flatnonzero(counts.max(axis=1, initial=0) < total)
    pool, counts, total = pool[split], counts[split], total[split]
    measured = {"entropy": routing.entropy(counts), "closeness": 1 - np.abs(counts[:, 0] - counts[:, 1]) / total}
    other = measured["closeness" if measure == "entropy" else "entropy"]
    numbers = pl.DataFrame(counts, schema=["a", "b", "tie"]).cast(pl.Int64)
    reason = numbers.select(pl.format("of {} votes {} for a, {} for b, {} neither", pl.sum_horizontal("a", "b", "tie"), "a", "b", "tie"))
    return routing.queue(pool, measured[measure], reason.to_series(), to, most, then=other)


def _sides(rows: pl.DataFrame, to: To, most: int) -> pl.DataFrame:
    """Judges against reward models."""
    said = routing.spoken(rows)
    judges, rewards = (routing.tally(said.filter(pl.col("kind") == kind), rows.height) for kind in ("llm", "reward_model"))
    with np.errstate(invalid="ignore"):
        shares = [(side[:, 0] + side[:, 2] / 2) / side.sum(axis=1) for side in (judges, rewards)]
    apart = np.abs(shares[0] - shares[1])
    apart[apart == 0] = np.nan
    said_by = [[f"{n[0]:.0f} for a, {n[1]:.0f} for b, {n[2]:.0f} neither" for n in side] for side in (judges, rewards)]
    reason = [f"judges: {judge}; reward models: {reward}" for judge, reward in zip(*said_by, strict=True)]
    return routing.queue(rows, apart, reason, to, most, then=routing.entropy(judges + rewards))
