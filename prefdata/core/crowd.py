"""Truth and annotators learned together: Dawid and Skene's confusion matrices, and MACE.

Expectation and maximisation over tables (annotator x answer) and bincounts over votes; no loop over votes, pairs or annotators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefdata.core.cast import Cast, tally
from prefdata.core.labels import CLASSES
from prefdata.core.special import digamma
from prefdata.core.stats import Ints, Reals

_SIDES = (0, 1)
_FLOOR = 1e-10
"""No probability of an answer is taken for less: one vote alone must not rule out an outcome for ever."""


@dataclass(frozen=True)
class Truth:
    """Posterior over the outcomes of each pair, and how it was found.

    Attributes:
        p: (pairs, 3), rows sum to 1; an outcome that nobody named has 0.
        prior: (3,), shares of the outcomes over all pairs.
        answers: (annotators, 3, 3): P(answer of the second axis | outcome of the third); NaN for outcomes nobody named. None for MACE.
        skill: per annotator: expected share of right answers (Dawid-Skene), or probability of not guessing (MACE).
        fit: log-likelihood per vote at the end, in nats.
        rounds: steps taken; of the best start where there were several.
        settled: whether the gain fell below the tolerance before the limit.
    """

    p: Reals
    prior: Reals
    answers: Reals | None
    skill: Reals
    fit: float
    rounds: int
    settled: bool


class _Coded:
    """Votes over the outcomes that were named: entries annotator x answer as one number."""

    def __init__(self, cast: Cast, classes: Ints) -> None:
        number = np.zeros(len(CLASSES), dtype=np.int64)
        number[classes] = np.arange(len(classes))
        self.classes, self.width = classes, len(classes)
        self.pairs, self.annotators = len(cast.pairs), len(cast.annotators)
        self.pair, self.said = cast.pair, number[cast.said]
        self.entry = cast.who * self.width + self.said
        self.cell = cast.pair * self.width + self.said
        self.size = cast.size

    def to_pairs(self, per_entry: Reals) -> Reals:
        """Sum over the votes of each pair of a number per (annotator, answer)."""
        return tally(self.pair, self.pairs, per_entry.ravel().take(self.entry))

    def to_entries(self, per_vote: Reals) -> Reals:
        """(annotators, answers): sums of a number per vote."""
        return tally(self.entry, self.annotators * self.width, per_vote).reshape(-1, self.width)

    def widened(self, p: Reals) -> Reals:
        """(pairs, 3) from (named outcomes, pairs)."""
        whole = np.zeros((self.pairs, len(CLASSES)))
        whole[:, self.classes] = p.T
        return whole


def dawid_skene(
    cast: Cast,
    *,
    known: Ints | None = None,
    symmetric: bool = False,
    smoothing: float = 0.0,
    tolerance: float = 1e-7,
    limit: int = 1000,
) -> Truth:
    """Maximum likelihood by EM from the shares of votes (Dawid & Skene 1979, equations 2.3 to 2.5).

    Args:
        known: per pair the outcome that is known for sure, -1 for none.
        symmetric: a and b are names only: what is learned about one holds for the other.
        smoothing: pseudo-votes added to every cell of every confusion matrix.
        tolerance: gain in log-likelihood per vote at which EM ends.
        limit: most rounds.
    """
    named = np.union1d(cast.classes, known[known >= 0]) if known is not None else cast.classes
    votes = _Coded(cast, np.union1d(named, _SIDES) if symmetric else named)
    fixed = _fixed(known, votes)
    p = cast.counts[:, votes.classes].T / np.maximum(cast.counts.sum(axis=1), 1)
    p[:, cast.counts.sum(axis=1) == 0] = 1 / max(votes.width, 1)
    p = _with(p, fixed)
    fit, gain, rounds = -np.inf, np.inf, 0
    prior, answers = _learn(votes, p, symmetric, smoothing)
    while rounds < limit and not gain < tolerance and votes.size:
        score = np.log(np.maximum(prior, _FLOOR))[:, None] + np.stack([votes.to_pairs(np.log(table)) for table in answers])
        p, value = _posterior(score, fixed)
        prior, answers = _learn(votes, p, symmetric, smoothing)
        rounds += 1
        gain, fit = value / votes.size - fit, value / votes.size
    whole = np.full((votes.annotators, len(CLASSES), len(CLASSES)), np.nan)
    whole[np.ix_(np.arange(votes.annotators), votes.classes, votes.classes)] = answers.transpose(1, 2, 0)
    shares = np.zeros(len(CLASSES))
    shares[votes.classes] = prior
    skill = np.einsum("k,kwk->w", prior, answers) if votes.width else np.zeros(votes.annotators)
    return Truth(votes.widened(p), shares, whole, skill, float(fit), rounds, bool(gain < tolerance) or not votes.size)


def _learn(votes: _Coded, p: Reals, symmetric: bool, smoothing: float) -> tuple[Reals, Reals]:
    """Prior (outcomes,) and answers (outcomes, annotators, answers) that fit the posterior best."""
    counted = np.stack([votes.to_entries(row.take(votes.pair)) for row in p]) if votes.width else np.zeros((0, votes.annotators, 0))
    prior = p.mean(axis=1) if votes.pairs else np.full(votes.width, 1 / max(votes.width, 1))
    if symmetric:
        turned = [1, 0, *range(2, votes.width)]
        counted = (counted + counted[turned][:, :, turned]) / 2
        prior = (prior + prior[turned]) / 2
    counted = np.maximum(counted + smoothing, _FLOOR)
    return prior, counted / counted.sum(axis=2, keepdims=True)


def _posterior(score: Reals, fixed: Reals | None) -> tuple[Reals, float]:
    """Columns of log-scores as probabilities, and their summed log-likelihood."""
    if fixed is not None:
        score = np.where(np.isnan(fixed), score, np.where(fixed > 0, score, -np.inf))
    top = score.max(axis=0)
    p = np.exp(score - top)
    total = p.sum(axis=0)
    return p / total, float((top + np.log(total)).sum())


def _fixed(known: Ints | None, votes: _Coded) -> Reals | None:
    """(outcomes, pairs): 1 and 0 where the outcome is known, NaN elsewhere."""
    if known is None or not (known >= 0).any():
        return None
    return np.where(known < 0, np.nan, (known == votes.classes[:, None]).astype(np.float64))


def _with(p: Reals, fixed: Reals | None) -> Reals:
    return p if fixed is None else np.where(np.isnan(fixed), p, fixed)


def mace(
    cast: Cast,
    *,
    seed: int = 0,
    restarts: int = 10,
    spam_prior: tuple[float, float] | None = (0.5, 0.5),
    guess_prior: float = 10.0,
    tolerance: float = 1e-6,
    limit: int = 200,
) -> Truth:
    """An annotator either knows the outcome or guesses by a habit of their own (Hovy et al. 2013, sections 3 and 4).

    The first start is even-handed, the others are drawn; the one with the highest likelihood stays.

    Args:
        seed: of the starts.
        restarts: how many starts.
        spam_prior: Beta prior (guessing, knowing) per annotator, learned by variational Bayes; None: plain EM with a little smoothing.
        guess_prior: Dirichlet prior of each habit, for variational Bayes.
        tolerance: gain in log-likelihood per vote at which a start ends.
        limit: most rounds of a start.
    """
    votes = _Coded(cast, cast.classes)
    rng = np.random.default_rng(seed)
    best: Truth | None = None
    for number in range(max(restarts, 1)):
        spread = 0.0 if number == 0 else 0.5
        knows = _normal(1 + spread * rng.random((votes.annotators, 2)))
        habit = _normal(1 + spread * rng.random((votes.annotators, votes.width)))
        found = _mace_once(votes, knows, habit, spam_prior, guess_prior, tolerance, limit)
        best = found if best is None or found.fit > best.fit else best
    assert best is not None
    return best


def _mace_once(
    votes: _Coded, knows: Reals, habit: Reals, spam_prior: tuple[float, float] | None, guess_prior: float, tolerance: float, limit: int
) -> Truth:
    fit, gain, rounds = -np.inf, np.inf, 0
    p = np.full((votes.pairs, votes.width), 1 / max(votes.width, 1))
    while rounds < limit and not gain < tolerance and votes.size:
        guessed = knows[:, :1] * habit
        # log of: guessed for every outcome, and guessed or known for the one that was named
        score = tally(votes.cell, votes.pairs * votes.width, np.log1p(knows[:, 1:] / guessed).ravel().take(votes.entry))
        score = score.reshape(-1, votes.width)
        top = score.max(axis=1)
        p = np.exp(score - top[:, None])
        total = p.sum(axis=1)
        value = float((votes.to_pairs(np.log(guessed)) + top + np.log(total / votes.width)).sum())
        p /= total[:, None]
        share_known = (knows[:, 1:] / (guessed + knows[:, 1:])).ravel().take(votes.entry)
        known = votes.to_entries(p.ravel().take(votes.cell) * share_known)
        spammed = np.maximum(votes.to_entries(np.ones(votes.size)) - known, 0.0)
        counted = np.stack([spammed.sum(axis=1), known.sum(axis=1)], axis=1)
        if spam_prior is None:
            smoothing = 0.01 / votes.width
            knows, habit = _normal(counted + smoothing), _normal(spammed + smoothing)
        else:
            knows, habit = _expected(counted + np.array(spam_prior)), _expected(spammed + guess_prior)
        rounds += 1
        gain, fit = value / votes.size - fit, value / votes.size
    prior = np.zeros(len(CLASSES))
    prior[votes.classes] = p.mean(axis=0) if votes.pairs else 0.0
    return Truth(votes.widened(p.T), prior, None, knows[:, 1] / knows.sum(axis=1), float(fit), rounds, bool(gain < tolerance))


def _normal(x: Reals) -> Reals:
    out: Reals = x / x.sum(axis=1, keepdims=True)
    return out


def _expected(x: Reals) -> Reals:
    """exp E[log share] under a Dirichlet with these parameters."""
    out: Reals = np.exp(digamma(x) - digamma(x.sum(axis=1, keepdims=True)))
    return out
