"""A taste for every annotator: a mixture of a few shared rewards, the mixture being the annotator's own (LoRe, PAL)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefdata.core.cast import tally
from prefdata.core.descent import descend
from prefdata.core.stats import Reals
from prefdata.core.tastes import Design, Opinions, leanings, log_likelihood_and_p


class Tastes(NamedTuple):
    """Shared rewards and who likes which."""

    rewards: Reals
    """(size, rank): the shared rewards."""
    taste: Reals
    """(annotators, rank): shares of the rewards, rows sum to 1."""
    fit: float
    """Penalised log-likelihood per vote, in nats."""
    rounds: int
    settled: bool


def tastes(
    design: Design,
    votes: Opinions,
    *,
    rank: int,
    l2: float = 0.1,
    taste_l2: float = 1.0,
    restarts: int = 2,
    seed: int = 0,
    tolerance: float = 1e-6,
    limit: int = 500,
) -> Tastes:
    """Rewards V (size, rank) and weights w (annotators, rank) of highest penalised likelihood.

    The reward of u is V softmax(w_u) (LoRe, Bose et al. 2025, section 3); both are fitted jointly, by L-BFGS instead of Adam.
    The first start spreads the shared rewards around the common one along the directions in which annotators differ most.

    Args:
        rank: how many shared rewards.
        l2: ridge on the rewards.
        taste_l2: ridge on the weights before the softmax: who has few votes stays near an even mixture.
        restarts: how many starts; the best one stays.
        tolerance: relative gain at which a start ends.
        limit: most rounds of a start.
    """
    if not len(votes.said) or not design.size:  # nothing was said of anything
        return Tastes(np.zeros((design.size, rank)), np.full((votes.annotators, rank), 1 / rank), 0.0, 0, True)
    rng = np.random.default_rng(seed)
    model = _Model(design, votes, rank, l2, taste_l2)
    common = _common(design, votes, l2)
    best: Tastes | None = None
    for number in range(max(restarts, 1) if rank > 1 else 1):
        start = model.start(common, 15 if number == 0 else 1, rng)
        found = descend(model.slope, start, scale=model.scale(start), tolerance=tolerance, limit=limit)
        if best is None or -found.value / len(votes.said) > best.fit:
            rewards, weights = model.split(found.x)
            best = Tastes(rewards, _shares(weights), -found.value / len(votes.said), found.rounds, found.settled)
    assert best is not None
    order = np.argsort(-best.taste.mean(axis=0), kind="stable")
    return best._replace(rewards=best.rewards[:, order], taste=best.taste[:, order])


def _common(design: Design, votes: Opinions, l2: float) -> Reals:
    """The one reward that fits everybody's votes best."""
    alone = _Model(design, votes, 1, l2, 1.0)
    return descend(alone.slope, np.zeros(design.size + votes.annotators), tolerance=1e-10, limit=200).x[: design.size]


def _shares(weights: Reals) -> Reals:
    grown = np.exp(weights - weights.max(axis=1, keepdims=True))
    out: Reals = grown / grown.sum(axis=1, keepdims=True)
    return out


class _Model:
    """Minus the penalised log-likelihood; the variables are V and w, one after the other."""

    def __init__(self, design: Design, votes: Opinions, rank: int, l2: float, taste_l2: float) -> None:
        self.design, self.votes, self.rank, self.l2, self.taste_l2 = design, votes, rank, l2, taste_l2

    def split(self, x: Reals) -> tuple[Reals, Reals]:
        cut = self.design.size * self.rank
        return x[:cut].reshape(self.design.size, self.rank), x[cut:].reshape(self.votes.annotators, self.rank)

    def start(self, common: Reals, rounds: int, rng: np.random.Generator) -> Reals:
        """Shared rewards around the common one, and tastes that lean as the annotators' votes do."""
        lean = leanings(self.design, self.votes, common, max(self.rank - 1, 1), rounds, rng)
        corners = np.eye(self.rank) - 1 / self.rank
        basis = np.linalg.qr(corners[:, : lean.along.shape[1]])[0] if self.rank > 1 else np.zeros((1, 1))
        basis = basis[:, : lean.along.shape[1]]
        reach = max(float(np.linalg.norm(common)), 1.0)
        spread = lean.of / np.maximum(np.abs(lean.of).mean(axis=0), 1e-12)
        rewards = common[:, None] + reach * lean.along @ basis.T
        return np.concatenate([rewards.ravel(), (spread @ basis.T).ravel()])

    def scale(self, x: Reals) -> Reals:
        """Inverse curvature near x, variable by variable."""
        rewards, weights = self.split(x)
        share, votes = _shares(weights), self.votes
        spread = 0.25 * tally(votes.pair, votes.pairs)
        of_item = np.abs(self.design.curvature(spread))[:, None] * (share**2).mean(axis=0)
        each = self.design.differences(rewards)
        off = ((each - each.mean(axis=1, keepdims=True)) ** 2).mean()
        of_taste = votes.per_annotator(np.full(len(votes.said), 0.2 * off / self.rank**2))[:, None] * np.ones(self.rank)
        return 1 / np.concatenate([(self.l2 + of_item).ravel(), (self.taste_l2 + of_taste).ravel()])

    def slope(self, x: Reals) -> tuple[float, Reals]:
        rewards, weights = self.split(x)
        share = _shares(weights)
        votes = self.votes
        each, mine = self.design.differences(rewards).take(votes.pair, axis=0), share.take(votes.who, axis=0)
        z = np.einsum("nk,nk->n", each, mine)
        likely, right = log_likelihood_and_p(z, votes.said)
        value = -float(likely.sum()) + self.l2 / 2 * float((rewards**2).sum())
        pull = right - votes.said
        to_pairs = np.stack([tally(votes.pair, votes.pairs, pull * column) for column in mine.T], axis=1)
        to_share = np.stack([votes.per_annotator(pull * column) for column in each.T], axis=1)
        to_weights = share * (to_share - np.einsum("uk,uk->u", to_share, share)[:, None]) + self.taste_l2 * weights
        value += self.taste_l2 / 2 * float((weights**2).sum())
        return value, np.concatenate([(self.design.back(to_pairs) + self.l2 * rewards).ravel(), to_weights.ravel()])
