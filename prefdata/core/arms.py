"""The responses of each prompt as arms of a bandit: what is believed of them, and which pair to ask for next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core import routing
from prefdata.core.stats import Ints, Reals

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Arms:
    """The responses in a pool's pairs; those of one prompt stand together.

    Attributes:
        prompt: number of the prompt of each arm; prompts are numbered by id.
        first, second: the arms of each pair.
        prompts: how many prompts.
    """

    prompt: Ints
    first: Ints
    second: Ints
    prompts: int

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Arms:
        """From rows with prompt_id, a_id, b_id."""
        sides = pl.concat(rows.select("prompt_id", arm=side) for side in ("a_id", "b_id"))
        arms = sides.unique().sort("prompt_id", "arm").with_columns(
            number=pl.int_range(pl.len(), dtype=pl.Int64), prompt=pl.col("prompt_id").rank("dense").cast(pl.Int64) - 1
        )  # fmt: skip
        at = sides.join(arms, on=["prompt_id", "arm"], how="left", maintain_order="left")["number"].to_numpy()
        prompt = arms["prompt"].to_numpy()
        return cls(prompt, at[: rows.height], at[rows.height :], int(prompt[-1]) + 1 if len(prompt) else 0)

    @property
    def size(self) -> int:
        return len(self.prompt)

    @property
    def opponents(self) -> Reals:
        """In how many pairs each arm stands."""
        return self.spread(np.ones(len(self.first)), np.ones(len(self.first)))

    @property
    def of_pair(self) -> Ints:
        """The prompt of each pair."""
        return self.prompt[self.first]

    def spread(self, to_first: Reals, to_second: Reals) -> Reals:
        """Sums per arm of what each of its pairs gives."""
        sums = [np.bincount(arm, given, minlength=self.size) for arm, given in ((self.first, to_first), (self.second, to_second))]
        made: Reals = (sums[0] + sums[1]).astype(np.float64)
        return made

    def highest(self, values: Reals) -> Reals:
        """Per prompt the largest value of its arms."""
        top = np.full(self.prompts, -np.inf)
        np.maximum.at(top, self.prompt, values)
        return top

    def best(self, values: Reals) -> Ints:
        """Per prompt the arm with the largest value, the first of equals; -1 where its values are NaN."""
        top = self.highest(values)
        places = np.flatnonzero(values == top[self.prompt])
        winner = np.full(self.prompts, -1)
        winner[self.prompt[places[::-1]]] = places[::-1]
        return winner

    def whole(self, members: Reals) -> Bits:
        """Whether a member knows the value of every arm of an arm's prompt: (members, arms)."""
        known = np.isfinite(members)
        for row in known:
            row &= (np.bincount(self.prompt, ~row, minlength=self.prompts) == 0)[self.prompt]
        return known


def posterior(rows: pl.DataFrame) -> tuple[Reals, Reals]:
    """Beta posterior of P(a beats b) for each pair from its votes, ties half for either side; flat prior."""
    tied = (pl.col("n_tie") + pl.col("n_both_bad")) / 2
    won, lost = rows.select(won=1.0 + pl.col("n_a") + tied, lost=1.0 + pl.col("n_b") + tied).to_numpy().T
    return won, lost


def borda(arms: Arms, won: Reals, lost: Reals) -> tuple[Reals, Reals]:
    """Borda value of each arm, the mean over its opponents of P(it beats them): posterior mean and standard deviation."""
    total = won + lost
    spread = won * lost / (total**2 * (total + 1))
    met = arms.opponents
    return arms.spread(won / total, lost / total) / met, np.sqrt(arms.spread(spread, spread)) / met


def drawn_members(arms: Arms, won: Reals, lost: Reals, count: int, seed: int) -> Reals:
    """Borda values under `count` draws from the votes' posterior: (members, arms)."""
    beats = np.random.default_rng(seed).beta(won, lost, size=(count, len(won)))
    return np.stack([arms.spread(row, 1 - row) for row in beats]) / arms.opponents if len(won) else np.zeros((count, 0))


def scored_members(arms: Arms, rows: pl.DataFrame, *, standardised: bool) -> Reals:
    """The scores that each annotator gave to the responses: (annotators, arms), NaN where it gave none.

    Args:
        standardised: each annotator's scores less their mean over their standard deviation, so that scales compare.
    """
    said = routing.spoken(rows).drop_nulls(["a", "b"])
    place = said["place"].to_numpy()
    sides = [said.select("annotator_id", score=side, arm=pl.Series(of[place])) for side, of in (("a", arms.first), ("b", arms.second))]
    scores = pl.concat(sides).group_by("annotator_id", "arm").agg(pl.col("score").mean())
    names = scores["annotator_id"].unique().sort()
    members = np.full((len(names), arms.size), np.nan)
    members[names.search_sorted(scores["annotator_id"]).to_numpy(), scores["arm"].to_numpy()] = scores["score"].to_numpy()
    if standardised and len(names):
        spread = np.nanstd(members, axis=1, keepdims=True)
        members = (members - np.nanmean(members, axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return members


def variance(arms: Arms, members: Reals) -> Reals:
    """Per pair the variance between members of reward a less reward b (n - 1 below); NaN below two members that scored both."""
    apart = members[:, arms.first] - members[:, arms.second]
    known = np.isfinite(apart).sum(axis=0)
    centred = apart - np.nansum(apart, axis=0) / np.maximum(known, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        made: Reals = np.where(known > 1, np.nansum(centred**2, axis=0) / (known - 1), np.nan)
    return made


def thompson_pairs(arms: Arms, members: Reals, is_open: Bits, seed: int) -> Ints:
    """One open pair per prompt, -1 where there is none: the favourites of members drawn at random.

    The first response is the favourite of a random member, the second that of the next member who prefers another one;
    without such a member, the first member's best among the first response's opponents. A pair that is not in the pool or
    not open is passed over; where that leaves the first response no opponent, the prompt has none either.

    Args:
        members: (members, arms); NaN in all arms of a prompt, or in none.
    """
    picks, member = _favourites(arms, members, seed)
    if not picks.shape[1]:
        return np.full(arms.prompts, -1)
    first = picks[:, 0]
    prompt, rank = np.nonzero((picks >= 0) & (picks != first[:, None]))
    tried = _table(prompt, rank, first[prompt], picks[prompt, rank])
    return _first_open(arms, is_open, [tried, _against(arms, first, lambda at, other: -members[member[at], other])])


def widest_pairs(arms: Arms, members: Reals, is_open: Bits, variance: Reals, seed: int | None) -> Ints:
    """One open pair per prompt, -1 where there is none: the one with the largest variance between members.

    Args:
        seed: among the pairs of a random member's favourite; None: among all.
    """
    every = _table(arms.of_pair, -np.nan_to_num(variance), arms.first, arms.second)
    if seed is None:
        return _first_open(arms, is_open, [every])
    picks, _ = _favourites(arms, members, seed)
    first = picks[:, 0] if picks.shape[1] else np.full(arms.prompts, -1)
    of_first = np.flatnonzero((first[arms.of_pair] == arms.first) | (first[arms.of_pair] == arms.second))
    return _first_open(arms, is_open, [every[of_first]])


def _favourites(arms: Arms, members: Reals, seed: int) -> tuple[Ints, Ints]:
    """Each prompt's favourites by its members in random order, -1 last where a member does not know the prompt; and who is first."""
    order = np.argsort(np.random.default_rng(seed).random((arms.prompts, len(members))), axis=1)
    best = np.stack([arms.best(row) for row in members]) if len(members) else np.zeros((0, arms.prompts), dtype=np.int64)
    picks = np.take_along_axis(best.T, order, axis=1)
    known = np.argsort(picks < 0, axis=1, kind="stable")
    order = np.take_along_axis(order, known, axis=1)
    return np.take_along_axis(picks, known, axis=1), order[:, 0] if len(members) else np.zeros(arms.prompts, dtype=np.int64)


def _against(arms: Arms, first: Ints, rank: Callable[[Ints, Ints], Reals]) -> pl.DataFrame:
    """The pairs of each prompt's first response with its opponents."""
    parts = []
    for one, other in ((arms.first, arms.second), (arms.second, arms.first)):
        places = np.flatnonzero(first[arms.of_pair] == one)
        prompt = arms.of_pair[places]
        parts.append(_table(prompt, rank(prompt, other[places]), one[places], other[places]))
    return pl.concat(parts)


def _table(prompt: Ints, rank: Reals | Ints, one: Ints, other: Ints) -> pl.DataFrame:
    low, high = np.minimum(one, other), np.maximum(one, other)
    return pl.DataFrame({"prompt": prompt, "rank": rank.astype(np.float64), "low": low, "high": high})


def _first_open(arms: Arms, is_open: Bits, tables: Sequence[pl.DataFrame]) -> Ints:
    """Per prompt the open pair of the lowest rank in the first table that has one."""
    pairs = pl.DataFrame({"low": np.minimum(arms.first, arms.second), "high": np.maximum(arms.first, arms.second)})
    pairs = pairs.with_columns(pair=pl.int_range(pl.len(), dtype=pl.Int64)).filter(pl.Series(is_open))
    chosen = np.full(arms.prompts, -1)
    for table in reversed(tables):
        found = table.join(pairs, on=["low", "high"]).sort("prompt", "rank", "pair").unique("prompt", keep="first")
        chosen[found["prompt"].to_numpy()] = found["pair"].to_numpy()
    return chosen
