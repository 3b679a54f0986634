"""GLAD: how able annotators and how hard pairs are, learned together with the truth (Whitehill et al. 2009)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefdata.core.cast import Cast, tally
from prefdata.core.descent import descend
from prefdata.core.labels import CLASSES
from prefdata.core.stats import Ints, Reals


class Glad(NamedTuple):
    """A fitted model."""

    p: Reals
    """(pairs, 3): posterior over the outcomes; 0 for one that nobody named."""
    ability: Reals
    """Per annotator: above 0 helps, 0 is guessing, below 0 misleads."""
    ease: Reals
    """Per pair, above 0: P(right) = sigma(ability x ease)."""
    fit: float
    """Log-likelihood per vote, in nats, priors left out."""
    rounds: int
    settled: bool


def glad(cast: Cast, *, known: Ints | None = None, tolerance: float = 1e-9, limit: int = 500) -> Glad:
    """The most probable abilities and eases, the truth summed out.

    P(vote = truth) = sigma(ability x ease), every other named outcome shares the rest alike; ability ~ N(1, 1), log ease
    ~ N(1, 1), all named outcomes equally likely at first (sections 2 and 3). The paper climbs the same hill by EM; here the
    slope of the summed-out posterior is followed itself, which it equals by Fisher's identity, with far fewer passes.

    Args:
        known: per pair the outcome that is known for sure, -1 for none; abilities are learned from these pairs first.
        tolerance: relative gain at which the climb ends.
        limit: most rounds.
    """
    model = _Model(cast, known)
    start = np.ones(model.annotators + model.pairs)
    if known is not None and (known[cast.pair] >= 0).any():  # what is known for sure says first who is able
        taught = _Model(cast.only(known[cast.pair] >= 0), known)
        start[: model.annotators] = descend(taught.slope, start, scale=taught.scale(start), tolerance=tolerance, limit=limit).x[
            : model.annotators
        ]
    found = descend(model.slope, start, scale=model.scale(start), tolerance=tolerance, limit=limit)
    ability, log_ease = model.split(found.x)
    p, value, _, _ = model.truth(ability, np.exp(log_ease))
    whole = np.zeros((model.pairs, len(CLASSES)))
    whole[:, model.classes] = p
    return Glad(whole, ability, np.exp(log_ease), value / max(cast.size, 1), found.rounds, found.settled)


class _Model:
    """Minus the log-posterior of abilities and log-eases."""

    def __init__(self, cast: Cast, known: Ints | None) -> None:
        self.classes = np.union1d(cast.classes, known[known >= 0]) if known is not None else cast.classes
        number = np.zeros(len(CLASSES), dtype=np.int64)
        number[self.classes] = np.arange(len(self.classes))
        self.pair, self.who = cast.pair, cast.who
        self.pairs, self.annotators, self.width = len(cast.pairs), len(cast.annotators), max(len(self.classes), 1)
        self.cell = cast.pair * self.width + number[cast.said]
        self.other = np.log(max(self.width - 1, 1))
        self.impossible: Reals | None = None
        if known is not None and (known >= 0).any():
            self.impossible = np.where((known[:, None] >= 0) & (known[:, None] != self.classes), -np.inf, 0.0)

    def split(self, x: Reals) -> tuple[Reals, Reals]:
        return x[: self.annotators], x[self.annotators :]

    def truth(self, ability: Reals, ease: Reals) -> tuple[Reals, float, Reals, Reals]:
        """Posterior (pairs, outcomes), summed log-likelihood, and per vote ability x ease and P(wrong).

        log sigma(z) - log sigma(-z) = z, so a vote moves its own outcome only, by z + log(others), above a common floor.
        """
        z = ability.take(self.who) * ease.take(self.pair)
        low = np.exp(-np.abs(z))
        wrong = np.where(z >= 0, low, 1.0) / (1.0 + low)
        floor = -np.maximum(z, 0.0) - np.log1p(low) - self.other
        score = tally(self.cell, self.pairs * self.width, z + self.other).reshape(-1, self.width)
        if self.impossible is not None:
            score = score + self.impossible
        top = score.max(axis=1, keepdims=True)
        p = np.exp(score - top)
        total = p.sum(axis=1, keepdims=True)
        value = float(floor.sum() + (top + np.log(total)).sum() - self.pairs * np.log(self.width))
        return p / total, value, z, wrong

    def slope(self, x: Reals) -> tuple[float, Reals]:
        ability, log_ease = self.split(x)
        ease = np.exp(np.minimum(log_ease, 50.0))
        p, value, z, wrong = self.truth(ability, ease)
        pull = p.ravel().take(self.cell) - 1 + wrong
        gradient = np.concatenate(
            [tally(self.who, self.annotators, pull * ease.take(self.pair)), tally(self.pair, self.pairs, pull * z)]
        ) - (x - 1)
        return float(((x - 1) ** 2).sum()) / 2 - value, -gradient

    def scale(self, x: Reals) -> Reals:
        """Inverse curvature at x, as if the truth were known."""
        ability, log_ease = self.split(x)
        ease = np.exp(log_ease)
        z = ability.take(self.who) * ease.take(self.pair)
        spread = 1 / (2 + np.exp(z) + np.exp(-z))
        curve = np.concatenate(
            [tally(self.who, self.annotators, spread * ease.take(self.pair) ** 2), tally(self.pair, self.pairs, spread * z**2)]
        )
        return 1 / (1 + curve)
