"""Logistic regression on differences: weights of features such that the better of two rows scores higher.

With d the difference of two rows' features, better minus worse, the weights w minimise  C sum log(1 + exp(-w d)) + penalty(w),
where the penalty is ||w||^2 / 2 or the sum of |w|. There is no intercept: which row of a pair comes first says nothing, so d
and -d with the sides changed are the same observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prefdata.core.descent import descend
from prefdata.core.errors import BadValue
from prefdata.core.stats import Ints, Reals

Penalty = Literal["l1", "l2"]
STRENGTHS = tuple(float(c) for c in np.logspace(-5, 5, 12))
"""The C that are tried, from the strongest penalty to the weakest."""
FOLDS = 8
_ROUNDS = 2_000


@dataclass(frozen=True)
class Fit:
    """Weights and how they came about.

    Attributes:
        mean, std: per feature, over all rows; a row's z is (x - mean) / std, and 0 for a feature that never changes.
        weights: per feature, of z.
        low, high: 95 % interval of each weight, by drawing pairs again.
        accuracy: share of pairs put in order by weights fitted without them (equal scores count one half).
        penalty, strength: what cross-validation chose.
        pairs: how many pairs there were.
    """

    mean: Reals
    std: Reals
    weights: Reals
    low: Reals
    high: Reals
    accuracy: float
    penalty: Penalty
    strength: float
    pairs: int

    def score(self, row: Reals) -> float:
        """w z of one row."""
        return float(self.weights @ ((row - self.mean) / self.std))


def fit(better: Reals, worse: Reals, *, seed: int = 0, draws: int = 200, penalties: Sequence[Penalty] = ("l2", "l1")) -> Fit:
    """Fit weights to pairs of rows; penalty and strength by cross-validated accuracy, among equals by cross-validated log-loss.

    Args:
        better, worse: (pairs, features).
        seed: of folds and draws.
        draws: samples of pairs for the intervals.
        penalties: tried in this order.

    Raises:
        BadValue: fewer than two pairs per fold.
    """
    if len(better) < 2 * FOLDS:
        raise BadValue("pairs to fit on", len(better), f"at least {2 * FOLDS}")
    rows = np.concatenate([better, worse])
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    z = (better - worse) / std
    random = np.random.default_rng(seed)
    fold = random.permutation(len(z)) % FOLDS
    tried = [(*_held_out(z, fold, penalty, c), penalty, c) for penalty in penalties for c in STRENGTHS]
    accuracy, _, penalty, c = max(tried, key=lambda one: (round(one[0], 9), round(one[1], 9)))
    drawn = [solve(z[random.integers(0, len(z), len(z))], penalty, c) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Fit(mean, std, solve(z, penalty, c), low, high, accuracy, penalty, c, len(z))


def solve(differences: Reals, penalty: Penalty, c: float) -> Reals:
    """Weights for differences (pairs, features) at one penalty and strength."""
    return _ridge(differences, c) if penalty == "l2" else _lasso(differences, c)


def _held_out(z: Reals, fold: Ints, penalty: Penalty, c: float) -> tuple[float, float]:
    """Share of pairs put in order, and mean log-likelihood, by weights fitted on the other folds."""
    margins = np.empty(len(z))
    for number in range(FOLDS):
        margins[fold == number] = z[fold == number] @ solve(z[fold != number], penalty, c)
    right = float((margins > 0).sum() + 0.5 * (margins == 0).sum())
    return right / len(z), -float(np.logaddexp(0, -margins).mean())


def _loss(z: Reals, w: Reals, c: float) -> tuple[float, Reals]:
    margins = z @ w
    chance = 0.5 * (1 - np.tanh(0.5 * margins))  # sigma(-margin), stable at both ends
    return c * float(np.logaddexp(0, -margins).sum()), -c * (chance @ z)


def _ridge(z: Reals, c: float) -> Reals:
    def slope(w: Reals) -> tuple[float, Reals]:
        value, gradient = _loss(z, w, c)
        return value + 0.5 * float(w @ w), gradient + w

    return descend(slope, np.zeros(z.shape[1]), tolerance=1e-10).x


def _lasso(z: Reals, c: float) -> Reals:
    """Proximal gradient steps with momentum that restarts where it leads uphill (Beck & Teboulle 2009; O'Donoghue & Candes 2015)."""
    step = 1 / max(1e-12, c * float(np.linalg.norm(z, 2)) ** 2 / 4)
    w = ahead = np.zeros(z.shape[1])
    pace = 1.0
    for _ in range(_ROUNDS):
        _, gradient = _loss(z, ahead, c)
        moved = ahead - step * gradient
        new = np.sign(moved) * np.maximum(np.abs(moved) - step, 0)
        if float((ahead - new) @ (new - w)) > 0:
            pace = 1.0
        faster = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = new + (pace - 1) / faster * (new - w)
        if float(np.abs(new - w).max()) <= 1e-7 * max(1.0, float(np.abs(new).max())):
            return new
        w, pace = new, faster
    return w
