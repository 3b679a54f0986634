"""Annotators who differ: groups of them with a reward each (EM), and a taste of one's own between a few shared rewards.

A reward is linear: a strength per item (model or response), or a weight per feature of the responses. The vote of u on a
pair says a with probability sigma(difference of the rewards of its two sides); a tie is half a vote for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from prefdata.core.cast import tally
from prefdata.core.descent import descend
from prefdata.core.stats import Bools, Ints, Reals


class Design(Protocol):
    """How rewards become differences between the two sides of a pair."""

    @property
    def size(self) -> int:
        """Parameters of one reward."""

    def differences(self, rewards: Reals) -> Reals:
        """(pairs, k) from (size, k)."""

    def back(self, slopes: Reals) -> Reals:
        """The transposed map: (size, k) from (pairs, k)."""

    def curvature(self, weights: Reals) -> Reals:
        """(size,): sums over pairs of a weight times the square of the parameter's part in the difference."""


@dataclass(frozen=True)
class Items:
    """A strength per item."""

    first: Ints
    second: Ints
    size: int

    def differences(self, rewards: Reals) -> Reals:
        out: Reals = rewards[self.first] - rewards[self.second]
        return out

    def back(self, slopes: Reals) -> Reals:
        return np.stack([tally(self.first, self.size, s) - tally(self.second, self.size, s) for s in slopes.T], axis=1)

    def curvature(self, weights: Reals) -> Reals:
        return tally(self.first, self.size, weights) + tally(self.second, self.size, weights)


@dataclass(frozen=True)
class Features:
    """A weight per feature; `x` holds features of a less those of b."""

    x: Reals

    @property
    def size(self) -> int:
        return int(self.x.shape[1])

    def differences(self, rewards: Reals) -> Reals:
        out: Reals = self.x @ rewards
        return out

    def back(self, slopes: Reals) -> Reals:
        out: Reals = self.x.T @ slopes
        return out

    def curvature(self, weights: Reals) -> Reals:
        out: Reals = weights @ self.x**2
        return out


@dataclass(frozen=True)
class Opinions:
    """Votes: which pair, by whom, and 1 for a, 0 for b, 0.5 for a tie."""

    pair: Ints
    who: Ints
    said: Reals
    pairs: int
    annotators: int

    def only(self, kept: Bools) -> Opinions:
        return Opinions(self.pair[kept], self.who[kept], self.said[kept], self.pairs, self.annotators)

    def per_annotator(self, per_vote: Reals) -> Reals:
        return tally(self.who, self.annotators, per_vote)


class Groups(NamedTuple):
    """Groups of annotators, the largest first."""

    rewards: Reals
    """(size, groups)."""
    share: Reals
    """Of the annotators."""
    member: Reals
    """(annotators, groups): probability of belonging to each; the shares for one without votes."""
    fit: float
    """Penalised log-likelihood per vote, in nats."""
    rounds: int
    settled: bool


def sigmoid(z: Reals) -> Reals:
    """1 / (1 + e^-z) without overflow."""
    out: Reals = 0.5 * (1 + np.tanh(z / 2))
    return out


def log_likelihood_and_p(z: Reals, said: Reals) -> tuple[Reals, Reals]:
    """log P of each vote for differences z of rewards, and P(a), with one exponential for both."""
    low = np.exp(-np.abs(z))
    up = np.where(z >= 0, 1.0, low)
    likely: Reals = said * z - np.maximum(z, 0.0) - np.log1p(low)
    return likely, up / (1 + low)


def log_likelihood(z: Reals, said: Reals) -> Reals:
    """log P of each vote for differences z of rewards."""
    out: Reals = said * z - np.logaddexp(0, z)
    return out


def groups(
    design: Design,
    votes: Opinions,
    *,
    many: int,
    assign: Literal["soft", "hard"] = "soft",
    l2: float = 0.1,
    restarts: int = 5,
    seed: int = 0,
    tolerance: float = 1e-6,
    limit: int = 200,
) -> Groups:
    """`many` groups by expectation and maximisation, the best of several starts (MaxMin-RLHF, Chakraborty et al. 2024, section 4).

    The first start splits annotators along the direction in which they differ most from what all agree on, the others
    along directions drawn at random.

    Args:
        assign: annotators belong to groups with probabilities, or each to the likeliest one.
        l2: ridge on every reward.
        tolerance: gain in penalised log-likelihood per vote at which a start ends.
        limit: most rounds of a start.
    """
    if not len(votes.said) or not design.size:  # nothing was said of anything
        even = np.full(many, 1 / many)
        return Groups(np.zeros((design.size, many)), even, np.tile(even, (votes.annotators, 1)), 0.0, 0, True)
    rng = np.random.default_rng(seed)
    common = _rewards(design, votes, np.ones((votes.annotators, 1)), np.zeros((design.size, 1)), l2, 200)
    best: Groups | None = None
    for number in range(max(restarts, 1) if many > 1 else 1):
        lean = leanings(design, votes, common[:, 0], max(many - 1, 1), 15 if number == 0 else 1, rng).of
        member = _split(lean, many, rng)
        found = _em(design, votes, member, np.repeat(common, many, axis=1), assign, l2, tolerance, limit)
        best = found if best is None or found.fit > best.fit else best
    assert best is not None
    order = np.argsort(-best.share, kind="stable")
    return best._replace(rewards=best.rewards[:, order], share=best.share[order], member=best.member[:, order])


def _em(design: Design, votes: Opinions, member: Reals, rewards: Reals, assign: str, l2: float, tolerance: float, limit: int) -> Groups:
    fit, gain, rounds = -np.inf, np.inf, 0
    heard = votes.per_annotator(np.ones(len(votes.said))) > 0
    share = np.full(member.shape[1], 1 / member.shape[1])
    while rounds < limit and not gain < tolerance and len(votes.said):
        share = (member[heard].sum(axis=0) + 1e-3) / (heard.sum() + 1e-3 * len(share))
        rewards = _rewards(design, votes, member, rewards, l2, 200 if len(share) == 1 else 20)
        score = _scores(design, votes, rewards) + np.log(share)
        top = score.max(axis=1, keepdims=True)
        weight = np.exp(score - top)
        if assign == "soft":
            member = weight / weight.sum(axis=1, keepdims=True)
            value = float((top[:, 0] + np.log(weight.sum(axis=1)))[heard].sum())
        else:
            member, value = _likeliest(score, heard), float(score.max(axis=1)[heard].sum())
        value = (value - l2 / 2 * float((rewards**2).sum())) / len(votes.said)
        rounds += 1
        gain, fit = value - fit, value
    share = member[heard].mean(axis=0) if heard.any() else share
    return Groups(rewards, share, np.where(heard[:, None], member, share), float(fit), rounds, bool(gain < tolerance))


def _scores(design: Design, votes: Opinions, rewards: Reals) -> Reals:
    """(annotators, groups): log-likelihood of all votes of each annotator under each reward."""
    z = design.differences(rewards)
    return np.stack([votes.per_annotator(log_likelihood(column.take(votes.pair), votes.said)) for column in z.T], axis=1)


def _likeliest(score: Reals, heard: Bools) -> Reals:
    """Everybody in one group; an empty group gets the annotators whom the others fit worst."""
    member = np.zeros_like(score)
    member[np.arange(len(score)), score.argmax(axis=1)] = 1.0
    for k in np.flatnonzero(member[heard].sum(axis=0) == 0):
        worst = np.argsort(np.where(heard, score.max(axis=1), np.inf))[: max(1, int(heard.sum()) // (10 * score.shape[1]))]
        member[worst] = 0.0
        member[worst, k] = 1.0
    return member


def _rewards(design: Design, votes: Opinions, member: Reals, start: Reals, l2: float, limit: int) -> Reals:
    """The reward of each group that fits its members' votes best, downhill from `start`."""
    up = np.stack([tally(votes.pair, votes.pairs, m.take(votes.who) * votes.said) for m in member.T], axis=1)
    every = np.stack([tally(votes.pair, votes.pairs, m.take(votes.who)) for m in member.T], axis=1)

    def slope(flat: Reals) -> tuple[float, Reals]:
        w = flat.reshape(start.shape)
        z = design.differences(w)
        value = float((every * np.logaddexp(0, z) - up * z).sum()) + l2 / 2 * float((w**2).sum())
        return value, (design.back(every * sigmoid(z) - up) + l2 * w).ravel()

    return descend(slope, start.ravel(), tolerance=1e-10, limit=limit).x.reshape(start.shape)


class Leanings(NamedTuple):
    """How annotators differ from the common reward."""

    along: Reals
    """(size, directions), of unit length."""
    of: Reals
    """(annotators, directions): the slope of an annotator's likelihood along each, per root of the number of votes."""


def leanings(design: Design, votes: Opinions, common: Reals, directions: int, rounds: int, rng: np.random.Generator) -> Leanings:
    """The directions along which the slopes of the annotators' likelihoods at the common reward spread most.

    Leading right singular vectors of the (annotators, size) table of slopes, found by repeated multiplication; the table
    itself is never made.
    """
    surprise = votes.said - sigmoid(design.differences(common[:, None])[:, 0]).take(votes.pair)
    root = np.sqrt(np.maximum(votes.per_annotator(np.ones(len(votes.said))), 1))
    along, _ = np.linalg.qr(rng.normal(size=(design.size, min(directions, design.size))))
    of = np.zeros((votes.annotators, along.shape[1]))
    for number in range(rounds + 1):
        z = design.differences(along)
        of = np.stack([votes.per_annotator(surprise * column.take(votes.pair)) for column in z.T], axis=1) / root[:, None]
        if number < rounds:
            pulled = [tally(votes.pair, votes.pairs, surprise * (column / root).take(votes.who)) for column in of.T]
            along, _ = np.linalg.qr(design.back(np.stack(pulled, axis=1)) + 1e-12 * along)
    return Leanings(along, of)


def _split(lean: Reals, many: int, rng: np.random.Generator) -> Reals:
    """Annotators in `many` clusters of their leanings: a few rounds of k-means from spread-out starts."""
    if many == 1 or not len(lean):
        return np.ones((len(lean), many))
    centre = lean[[int(rng.integers(len(lean)))]]
    while len(centre) < many:
        far = ((lean[:, None] - centre) ** 2).sum(axis=2).min(axis=1)
        centre = np.append(centre, lean[[int(rng.choice(len(lean), p=far / far.sum() if far.sum() else None))]], axis=0)
    nearest = np.zeros(len(lean), dtype=np.int64)
    for _ in range(10):
        nearest = ((lean[:, None] - centre) ** 2).sum(axis=2).argmin(axis=1)
        size = np.maximum(np.bincount(nearest, minlength=many), 1)
        centre = np.stack([tally(nearest, many, column) for column in lean.T], axis=1) / size[:, None]
    return 0.1 / many + 0.9 * np.eye(many)[nearest]
