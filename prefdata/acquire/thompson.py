"""Acquire: pairs of responses that members of an ensemble each take for the best."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core import arms as bandit
from prefdata.core import routing
from prefdata.core.errors import BadValue
from prefdata.core.method import method


@method(
    version=1,
    subject="pair",
    needs=("pair_id", "prompt_id", "a_id", "b_id"),
    paper="SEA: Liu et al. 2024 (2411.01493)",
)
def thompson(
    rows: pl.DataFrame,
    seed: int,
    *,
    members: Literal["votes", "scores"] = "votes",
    select: Literal["thompson", "best_arm", "uncertain"] = "thompson",
    count: int = 20,
    standardised: bool = True,
    to: Literal["human", "llm"] = "human",
    most: int = 200,
    enough: int | None = None,
) -> pl.DataFrame:
    """One pair per prompt, by an ensemble of rewards: double Thompson sampling, best-arm identification or pure uncertainty.

    thompson takes the favourite of a random member and that of the next one who prefers another; best_arm sets the favourite
    of a random member against the response whose reward, less the favourite's, varies most between members; uncertain takes
    the pair whose difference varies most. priority is that variance (n - 1 below). The paper's members are reward heads trained
    on frozen features; here they are draws from what the votes say (Borda values under a Beta posterior per pair), or the
    annotators that scored the responses, such as several reward models. A prompt that fewer than two members have scored in
    full is left out.

    Args:
        members: draws from the posterior of the votes, or one member per annotator with scores.
        select: how the pair of a prompt is chosen.
        count: draws from the votes, 2 or more; the paper's ensemble has 20.
        standardised: bring each annotator's scores to mean 0 and standard deviation 1 first; for members scores.
        to: who is asked.
        most: at most this many pairs.
        enough: pairs with at least so many votes by those who are asked are left out; null: none are.
    """
    if count < 2:
        raise BadValue("acquire/thompson: count", count, "2 or more")
    arms = bandit.Arms.of(rows)
    if members == "votes":
        rewards = bandit.drawn_members(arms, *bandit.posterior(rows), count, seed)
    else:
        rewards = bandit.scored_members(arms, rows, standardised=standardised)
    rewards = np.where(arms.whole(rewards), rewards, np.nan)
    apart = bandit.variance(arms, rewards)
    is_open = rows["pair_id"].is_in(routing.still_open(rows, to, enough)["pair_id"].implode()).to_numpy() & np.isfinite(apart)
    if select == "thompson":
        chosen = bandit.thompson_pairs(arms, rewards, is_open, seed)
    else:
        chosen = bandit.widest_pairs(arms, rewards, is_open, apart, seed if select == "best_arm" else None)
    places = chosen[chosen >= 0]
    for_a = np.nansum(rewards[:, arms.first[places]] > rewards[:, arms.second[places]], axis=0)
    of = np.isfinite(rewards[:, arms.first[places]]).sum(axis=0)
    reason = [
        f"{a} of {n} members prefer a; the rewards' difference has variance {v:.3g}"
        for a, n, v in zip(for_a, of, apart[places], strict=True)
    ]
    return routing.queue(rows[places], apart[places], reason, to, most)
