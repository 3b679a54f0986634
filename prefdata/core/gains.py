"""What a label is expected to gain: the chance that the AI's label is not the people's, learned from pairs with both.

A pair's gain from a person is the chance that its label is right afterwards less the chance that it is right now; a pair
without an AI label gains from an AI the chance that this label would be right. The Hybrid Preferences router (Miranda et
al. 2025) learns the gain from hundreds of reward models trained on random mixtures; this is its cheap stand-in, a
logistic regression on the same kind of traits (`traits.py`) that predicts where the AI errs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefdata.core import routing, traits
from prefdata.core.cast import leaders
from prefdata.core.stats import Ints, Reals, draws
from prefdata.core.traits import Bits, Traits

LEAST = 30
"""Pairs with both labels below which nothing is learned."""
LEARNED_FROM = 5000
"""Of more pairs with both labels, so many are drawn."""
FOLDS = 5
RIDGES = (0.5, 2.0, 8.0, 32.0)
STRATA, PER_STRATUM = 10, 40
"""Groups of like predicted chance in which the gain of a selection is counted: at most so many, of about so many pairs at least."""
_DRAWS = 2000
_ROUNDS = 50
_BLOCK = 50_000
_SLIGHT = 0.05
"""A trait that moves the log-odds by less is not named."""


@dataclass(frozen=True)
class Learned:
    """A logistic regression and how well it did on pairs it had not seen.

    Attributes:
        centre, weights, intercept: chance = sigmoid(intercept + weights . (x - centre)).
        held_out: the chance that each learned-from pair had from the folds without it.
        wrong: whether the AI was wrong there.
        ridge: the penalty that cross-fitting chose.
    """

    centre: Reals
    weights: Reals
    intercept: float
    held_out: Reals
    wrong: Bits
    ridge: float

    def chance(self, x: Reals) -> Reals:
        return _sigmoid(self.intercept + (x - self.centre) @ self.weights)

    @property
    def strata(self) -> int:
        """Groups in which `selected` counts."""
        return min(STRATA, max(1, len(self.wrong) // PER_STRATUM))

    @property
    def auc(self) -> float | None:
        """How often a wrong label had the higher held-out chance than a right one, ties half; None without both kinds."""
        hits, misses = int(self.wrong.sum()), int((~self.wrong).sum())
        if not hits or not misses:
            return None
        ranks = pl.Series(self.held_out).rank("average").to_numpy()
        return float((ranks[self.wrong].sum() - hits * (hits + 1) / 2) / (hits * misses))


@dataclass(frozen=True)
class Estimate:
    """What is known and expected of each pair of a pool.

    Attributes:
        ai, truth: labels by the AI and by people: 0 a, 1 b, 2 tie, -1 none.
        spoke: whether the AI gave any vote; it may have no label all the same.
        wrong: the chance that the AI's label is wrong, 1 where there is none; NaN where nothing could be learned.
        by_human, by_llm: expected gain of a label, in right labels; NaN where unknown, 0 where there is none to be had, because
            people, or the AI, have given the pair a label.
        traits: what the chance goes by.
        judged: the model of pairs with an AI label; None below `LEAST` pairs with both.
        unjudged: the model of pairs without one, on their texts alone.
    """

    ai: Ints
    truth: Ints
    spoke: Bits
    wrong: Reals
    by_human: Reals
    by_llm: Reals
    traits: Traits
    judged: Learned | None
    unjudged: Learned | None

    @property
    def both(self) -> Ints:
        """Places of the pairs with a label by the AI and one by people."""
        return np.flatnonzero((self.ai >= 0) & (self.truth >= 0))


def estimate(
    rows: pl.DataFrame, seed: int, *, ai: Sequence[str], features: Sequence[str], human_accuracy: float, least: int = LEAST
) -> Estimate:
    """Learn from the pairs with both labels and say what each pair would gain.

    Args:
        rows: a router's rows with prompt, a_text, b_text, source, voices and `features`.
        seed: decides the folds.
        ai: annotators or kinds whose plurality is the AI's label; empty: every machine.
        human_accuracy: chance that a person's label is the right one.
    """
    said = routing.spoken(rows)
    machines = routing.tally(said.filter(~routing.people()), rows.height)
    votes = routing.tally(said.filter(routing.named(ai)), rows.height)
    label, truth = leaders(votes), leaders(routing.tally(said.filter(routing.people()), rows.height))
    of_texts, longer_a, words = traits.of_texts(rows)
    own = traits.of_columns(rows, features)
    texts = traits.joined([of_texts, own], words)
    seen = traits.joined([of_texts, own, traits.of_voices(machines, label, longer_a, _sure(said, ai, rows.height))], words)
    spoke = votes.sum(axis=1) > 0
    both = np.flatnonzero((label >= 0) & (truth >= 0))
    judged = unjudged = None
    wrong = np.where(spoke, np.where(label < 0, 1.0, np.nan), 1.0)
    by_llm = np.zeros(rows.height)
    by_llm[~spoke] = np.nan
    if len(both) >= least:
        erred, ids = label[both] != truth[both], rows["pair_id"][both]
        judged = learn(seen.matrix(both), erred, draws(ids, seed))
        decided = np.flatnonzero(label >= 0)
        wrong[decided] = _in_blocks(judged, seen, decided)
        if not spoke.all():
            unjudged = learn(texts.matrix(both), erred, draws(ids, seed))
            by_llm[~spoke] = 1 - _in_blocks(unjudged, texts, np.flatnonzero(~spoke))
    by_human = np.where(truth < 0, human_accuracy - (1 - wrong), 0.0)
    return Estimate(label, truth, spoke, wrong, by_human, np.where(truth < 0, by_llm, 0.0), seen, judged, unjudged)


def learn(x: Reals, wrong: Bits, drawn: Reals) -> Learned:
    """Fit with the ridge that predicts best across folds.

    Args:
        x: (pairs, traits).
        drawn: a number in [0, 1) per pair; decides the fold, and which pairs are used where there are too many.
    """
    if len(x) > LEARNED_FROM:
        kept = np.sort(np.argsort(drawn, kind="stable")[:LEARNED_FROM])
        x, wrong, drawn = x[kept], wrong[kept], drawn[kept]
    fold = np.argsort(np.argsort(drawn, kind="stable"), kind="stable") % FOLDS
    best: tuple[float, float, Reals] | None = None
    for ridge in RIDGES:
        held = np.empty(len(x))
        for number in range(FOLDS):
            out = fold == number
            centre, weights, intercept = _fit(x[~out], wrong[~out], ridge)
            held[out] = _sigmoid(intercept + (x[out] - centre) @ weights)
        loss = -float(np.log(np.where(wrong, held, 1 - held)).mean())
        if best is None or loss < best[0]:
            best = (loss, ridge, held)
    assert best is not None
    return Learned(*_fit(x, wrong, best[1]), best[2], wrong, best[1])


def selected(learned: Learned, chances: Reals, seed: int) -> Reals:
    """Draws of how many of the pairs with these predicted chances are wrong, by the error rates on held-out pairs.

    The learned-from pairs are cut into strata of like held-out chance; each stratum's rate has a Beta posterior (its prior
    weighs one pair of the overall rate), and the selection counts as many pairs of each as it has. What selecting by a
    noisy prediction promises too much is thereby not counted.
    """
    strata = learned.strata
    edges = np.quantile(learned.held_out, np.linspace(0, 1, strata + 1)[1:-1])
    of_known, of_chosen = np.searchsorted(edges, learned.held_out, side="right"), np.searchsorted(edges, chances, side="right")
    known, hits = (np.bincount(of_known, weights=w, minlength=strata) for w in (np.ones(len(of_known)), learned.wrong.astype(float)))
    overall = (hits.sum() + 0.5) / (known.sum() + 1)
    rates = np.random.default_rng(seed).beta(hits + overall, known - hits + 1 - overall, size=(_DRAWS, strata))
    made: Reals = rates @ np.bincount(of_chosen, minlength=strata).astype(np.float64)
    return made


def reasons(found: Estimate, places: Ints, most: int = 2) -> list[str]:
    """Per pair the traits that speak most for an error of the AI."""
    learned = found.judged
    if learned is None or not len(places):
        return [""] * len(places)
    names = (*found.traits.names, *traits.WORDINGS)
    count = len(found.traits.names)
    said = []
    for low in range(0, len(places), _BLOCK):
        some = places[low : low + _BLOCK]
        moved = (found.traits.matrix(some) - learned.centre) * learned.weights
        words = moved[:, count:].reshape(len(some), len(traits.WORDINGS), traits.WORDS).sum(axis=2)
        listed = np.concatenate([np.where(found.traits.there[some], moved[:, :count], 0), words], axis=1)
        top = np.argsort(-listed, axis=1, kind="stable")[:, :most]
        strong = np.take_along_axis(listed, top, axis=1) > _SLIGHT
        said += [", ".join(names[n] for n, tells in zip(row, tell, strict=True) if tells) for row, tell in zip(top, strong, strict=True)]
    return said


def _fit(x: Reals, wrong: Bits, ridge: float) -> tuple[Reals, Reals, float]:
    """Centre, weights and intercept of a ridge logistic regression by Newton's method.

    Half a right and half a wrong pair are added at the centre, so that the chance is never 0 or 1; the intercept is free.
    """
    centre = x.mean(axis=0)
    made = np.concatenate([np.ones((len(x), 1)), x - centre], axis=1)
    made = np.concatenate([made, np.eye(1, made.shape[1]), np.eye(1, made.shape[1])])
    y = np.concatenate([wrong.astype(np.float64), [0.0, 1.0]])
    weight = np.concatenate([np.ones(len(x)), [0.5, 0.5]])
    penalty = np.full(made.shape[1], ridge)
    penalty[0] = 0.0
    theta = np.zeros(made.shape[1])
    value = _loss(made @ theta, y, weight) + penalty @ theta**2 / 2
    for _ in range(_ROUNDS):
        chance = _sigmoid(made @ theta)
        slope = made.T @ (weight * (chance - y)) + penalty * theta
        bend = (made.T * (weight * np.maximum(chance * (1 - chance), 1e-9))) @ made + np.diag(penalty)
        step = np.linalg.solve(bend, slope)
        for _ in range(30):
            tried = theta - step
            new = _loss(made @ tried, y, weight) + penalty @ tried**2 / 2
            if new <= value:
                break
            step = step / 2
        else:
            break
        theta, value = tried, new
        if np.abs(step).max() < 1e-8:
            break
    return centre, theta[1:], float(theta[0])


def _loss(logit: Reals, y: Reals, weight: Reals) -> float:
    return float(weight @ (np.logaddexp(0, logit) - y * logit))


def _sigmoid(x: Reals) -> Reals:
    low = np.exp(-np.abs(x))
    made: Reals = np.where(x >= 0, 1.0, low) / (1.0 + low)
    return made


def _in_blocks(learned: Learned, of: Traits, places: Ints) -> Reals:
    """The chance at these places; the matrix of a large pool is made piece by piece."""
    parts = [learned.chance(of.matrix(places[low : low + _BLOCK])) for low in range(0, len(places), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _sure(said: pl.DataFrame, ai: Sequence[str], pairs: int) -> Reals:
    """Mean clearness of the AI's voices: |strength|, else the distance of its scores; NaN where it gave neither."""
    clear = said.filter(routing.named(ai)).select("place", sure=pl.coalesce(pl.col("strength").abs(), (pl.col("a") - pl.col("b")).abs()))
    mean = clear.drop_nulls("sure").group_by("place").agg(pl.col("sure").mean())
    sure = np.full(pairs, np.nan)
    sure[mean["place"].to_numpy()] = mean["sure"].to_numpy()
    return sure
