"""How far one router's replays lie ahead of another's, with intervals: everything on arrays, all shares and pairs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefdata.core.stats import Ints, Reals
from prefdata.core.traits import Bits

_MOST, _LEAST = 2000, 200
"""Resamples of the pairs: fewer where there are many pairs."""
_WORK = 2e9
_AT_ONCE = 1 << 17
_MIDDLE = (0.1, 0.5)
"""Shares over which the mean lead is taken."""


@dataclass(frozen=True)
class Seen:
    """The pairs of one replay.

    Attributes:
        places: their places in the pool.
        ai_right, human_right: whether the AI's label, and the people's, is right.
    """

    places: Ints
    ai_right: Bits
    human_right: Bits

    def human(self, rank: Ints, shares: Sequence[float]) -> Bits:
        """Which pairs people label, (pairs, shares): the first of each share in the order `rank`."""
        return rank[:, None] < np.array([round(share * len(rank)) for share in shares])

    def accuracy(self, rank: Ints, shares: Sequence[float]) -> Reals:
        """Share of right labels."""
        made: Reals = np.where(self.human(rank, shares), self.human_right[:, None], self.ai_right[:, None]).mean(axis=0)
        return made

    def resampled(self, rank: Ints, shares: Sequence[float], weights: Reals) -> Reals:
        """The same where each pair counts `weights` times, (resamples, pairs): (resamples, shares).

        People label the first pairs of the order whose weights make up the share, the last of them in part, so that every
        resample spends the same budget.
        """
        order = np.argsort(rank, kind="stable")
        ordered = weights[:, order]
        gain = self.human_right[order].astype(np.float64) - self.ai_right[order]
        until = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(ordered, axis=1)], axis=1)
        gained = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(ordered * gain, axis=1)], axis=1)
        total = until[:, -1:]
        target = total * np.asarray(shares)
        row = np.arange(len(weights))[:, None]
        shift = row * (float(total.max()) + 1)  # one search for all rows: each row's sums lie above those of the row before
        at = np.searchsorted((until + shift).ravel(), (target + shift).ravel(), side="right").reshape(target.shape) - row * until.shape[1]
        at = np.clip(at, 1, until.shape[1] - 1)
        step = until[row, at] - until[row, at - 1]
        part = np.divide(target - until[row, at - 1], step, out=np.zeros_like(target), where=step > 0)
        made: Reals = gained[row, at - 1] + part * (gained[row, at] - gained[row, at - 1])
        made = (made + weights @ self.ai_right[:, None]) / np.maximum(total, 1e-9)
        return made

    def caught(self, rank: Ints, shares: Sequence[float]) -> Reals:
        """Share of the AI's errors that people have seen."""
        made: Reals = (self.human(rank, shares) & ~self.ai_right[:, None]).sum(axis=0) / max(1, int((~self.ai_right).sum()))
        return made


@dataclass(frozen=True)
class Curve:
    """One router's replays, per share of the pairs that people labelled; intervals of 95 %.

    Attributes:
        accuracy, low, high: share of right labels, mean over the replays, and its interval.
        lead, lead_low, lead_high: that less random's, and its interval: on the same pairs, with the same seeds.
        caught: share of the AI's errors among the pairs bought so far.
        mean_lead: mean, low and high of the lead over the shares from 10 to 50 %; None where there are none of them.
    """

    router: str
    accuracy: list[float]
    low: list[float]
    high: list[float]
    lead: list[float]
    lead_low: list[float]
    lead_high: list[float]
    caught: list[float]
    mean_lead: tuple[float, float, float] | None


def compared(
    ranks: Mapping[str, Sequence[Ints]], seen: Sequence[Seen], shares: Sequence[float], units: Ints, against: str, seed: int
) -> list[Curve]:
    """The curve of every router.

    An interval is that of the mean over replays: each of up to 2,000 draws takes units with replacement, the same for every
    router, and replays with replacement.

    Args:
        ranks: router -> per replay the number of each pair in the order of purchase.
        seen: per replay.
        units: per pair of the pool the number of what is drawn: the pair itself, or its prompt.
        against: the router that leads are measured from.
    """
    drawn = {name: np.zeros((0, len(shares))) for name in ranks}
    rng = np.random.default_rng(seed)
    pairs = max(len(one.places) for one in seen)
    left = int(np.clip(_WORK / (pairs * len(seen) * len(ranks)), _LEAST, _MOST))
    kinds = np.unique(units[np.concatenate([one.places for one in seen])])
    while left:
        some = min(left, max(1, _AT_ONCE // len(units)))
        weights = np.zeros((some, int(units.max()) + 1))
        weights[:, kinds] = rng.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), size=some)
        replays = rng.multinomial(len(seen), np.full(len(seen), 1 / len(seen)), size=some) / len(seen)
        for name, of in ranks.items():
            sums = np.zeros((some, len(shares)))
            for number, (one, rank) in enumerate(zip(seen, of, strict=True)):
                sums += replays[:, [number]] * one.resampled(rank, shares, weights[:, units[one.places]])
            drawn[name] = np.concatenate([drawn[name], sums])
        left -= some
    plain = {name: np.mean([one.accuracy(rank, shares) for one, rank in zip(seen, of, strict=True)], axis=0) for name, of in ranks.items()}
    caught = {name: np.mean([one.caught(rank, shares) for one, rank in zip(seen, of, strict=True)], axis=0) for name, of in ranks.items()}
    return [
        _curve(name, shares, plain[name], plain[name] - plain[against], caught[name], drawn[name], drawn[name] - drawn[against])
        for name in ranks
    ]


def _curve(name: str, shares: Sequence[float], plain: Reals, lead: Reals, caught: Reals, drawn: Reals, apart: Reals) -> Curve:
    (low, high), (lead_low, lead_high) = (np.quantile(draws, (0.025, 0.975), axis=0).tolist() for draws in (drawn, apart))
    middle = [number for number, share in enumerate(shares) if _MIDDLE[0] - 1e-9 <= share <= _MIDDLE[1] + 1e-9]
    mean = None
    if middle:
        ends = np.quantile(apart[:, middle].mean(axis=1), (0.025, 0.975))
        mean = (float(lead[middle].mean()), float(ends[0]), float(ends[1]))
    return Curve(name, plain.tolist(), low, high, lead.tolist(), lead_low, lead_high, caught.tolist(), mean)
