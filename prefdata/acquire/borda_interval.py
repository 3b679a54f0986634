"""Acquire: for the prompts whose best response is least sure, the likeliest best one against another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import routing
from prefdata.core.arms import Arms, borda, posterior
from prefdata.core.method import method
from prefdata.core.stats import draws


@method(
    version=1,
    subject="pair",
    needs=("pair_id", "prompt_id", "a_id", "b_id"),
    paper="AE-Borda: Mehta et al. 2023 (2312.00267)",
)
def borda_interval(
    rows: pl.DataFrame,
    seed: int,
    *,
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    beta: float = 2.0,
    enough: int | None = None,
) -> pl.DataFrame:
    """One pair per prompt: the response with the highest upper bound against an opponent drawn at random.

    A response's Borda value is the mean over its opponents in the pool of P(it beats them). The votes give each P a Beta
    posterior (flat prior, a tie is half a win for either side); the value's bounds are its mean -+ beta standard deviations,
    cut to [0, 1]. priority is the prompt's largest upper bound less its largest lower bound: what is at stake in not knowing
    the best response. The paper's bounds come from a kernel or an ensemble; these come from votes alone, so a response
    without votes has the widest ones.

    Args:
        to: who is asked.
        most: at most this many pairs.
        beta: standard deviations on either side, above 0; the paper's factor is between 1 and 2.
        enough: pairs with at least so many votes by those who are asked are left out; null: none are.
    """
    arms = Arms.of(rows)
    mean, sd = borda(arms, *posterior(rows))
    upper, lower = np.minimum(mean + beta * sd, 1), np.maximum(mean - beta * sd, 0)
    stake = arms.highest(upper) - arms.highest(lower)
    open_pairs = rows.with_columns(
        prompt=pl.Series(arms.of_pair), upper=pl.Series(np.maximum(upper[arms.first], upper[arms.second])).round(9),
        drawn=pl.Series(draws(rows["pair_id"], seed)),
    )  # fmt: skip
    picked = routing.still_open(open_pairs, to, enough).sort("prompt", "upper", "drawn", descending=[False, True, False])
    picked = picked.unique("prompt", keep="first", maintain_order=True)
    at = picked["prompt"].to_numpy()
    reason = [f"the prompt's best response is known to {width:.2f} of its Borda value" for width in stake[at]]
    return routing.queue(picked, stake[at], reason, to, most)
