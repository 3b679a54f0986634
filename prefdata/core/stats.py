"""Numbers behind aggregates, audits and routes: pairwise strengths, agreement, intervals, stable draws.

Everything works on counts in numpy arrays; nothing loops over rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core.errors import PrefdataError

Reals = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Ties = Literal["davidson", "rao_kupper", "half"]
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Strengths:
    """A fitted Bradley-Terry model.

    Attributes:
        strength: log-strength of each item, mean 0 within its component; 0 for an item that was never compared.
        component: number of the connected component of each item; strengths of two components do not compare.
        tie: the tie parameter: Davidson's nu, Rao and Kupper's alpha, 0 without ties, infinite where all votes are ties.
        rounds: Newton steps taken.
    """

    strength: Reals
    component: Ints
    tie: float
    rounds: int


def bradley_terry(
    first: Ints,
    second: Ints,
    wins: Reals,
    losses: Reals,
    ties: Reals,
    *,
    items: int,
    ties_as: Ties = "davidson",
    l2: float = 0.1,
    tolerance: float = 1e-7,
    limit: int = 200,
) -> Strengths:
    """Maximum-likelihood strengths from comparisons of items 0 .. items-1; one entry of the arrays is one comparison or many.

    All three likelihoods are concave in the strengths and the tie parameter, so Newton's method with step halving finds the
    one maximum. Every connected component is fitted by itself (its own conjugate gradients, its own step), with one
    tie parameter for all.

    Args:
        first, second: the two items of each comparison.
        wins, losses, ties: how often `first` won, lost, or neither did.
        ties_as: Davidson (1970), Rao and Kupper (1967), or each tie as half a win for either side.
        l2: ridge on the strengths (minus l2/2 times their squares). 0 gives the plain maximum, which must exist.
        tolerance: largest step, in log-strength, at which the fit ends.
        limit: most Newton steps.

    Raises:
        PrefdataError: l2 is 0 and some items won or lost all they had against the rest, so that no finite maximum exists;
            or the fit did not end within `limit` steps.
    """
    edges = _Edges.collect(first, second, wins, losses, ties, items)
    component = components(edges.i, edges.j, items)
    if l2 == 0:
        _refuse_infinite(edges, component)
    model = _Model(edges, ties_as, l2, component)
    rounds = 0
    step = math.inf
    while step > tolerance:
        if rounds == limit:
            raise PrefdataError(f"Bradley-Terry did not settle in {limit} steps (last step {step:.2g}); give a larger l2, such as 0.1.")
        step = max(model.move_strengths(), model.move_tie())
        rounds += 1
    return Strengths(_centred(model.strength, component), component, model.tie, rounds)


def outcome(difference: Reals, ties_as: Ties, tie: float) -> tuple[Reals, Reals]:
    """P(first wins) and P(tie) for a difference of log-strengths."""
    if math.isinf(tie):
        return np.zeros_like(difference), np.ones_like(difference)
    first, _, neither = _probabilities(difference, ties_as, tie)
    return first, neither


def _probabilities(d: Reals, ties_as: Ties, tie: float) -> tuple[Reals, Reals, Reals]:
    """P(first), P(second), P(tie)."""
    if ties_as == "davidson":
        low = np.exp(-np.abs(d) / 2)  # everything divided by e^{|D|/2}, so that nothing overflows
        total = 1 + low * low + tie * low
        first, second = np.where(d >= 0, 1.0, low * low) / total, np.where(d >= 0, low * low, 1.0) / total
        return first, second, tie * low / total
    alpha = tie if ties_as == "rao_kupper" else 0.0
    first, second = _sigmoid(d - alpha), _sigmoid(-d - alpha)
    # (e^{2 alpha} - 1) / ((1 + e^{alpha + D})(1 + e^{alpha - D})): without the cancellation of 1 - first - second
    return first, second, math.expm1(2 * alpha) * first * second


def _sigmoid(x: Reals) -> Reals:
    low = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, low) / (1.0 + low)


def _log_sigmoid(x: Reals) -> Reals:
    return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))


def _sums(at: Ints, weights: Reals, size: int) -> Reals:
    """Sum of the weights at each number."""
    return np.asarray(np.bincount(at, weights=weights, minlength=size), dtype=np.float64)


@dataclass(frozen=True)
class _Edges:
    """Compared pairs of items, each once, i < j."""

    i: Ints
    j: Ints
    wins: Reals
    losses: Reals
    ties: Reals

    @classmethod
    def collect(cls, first: Ints, second: Ints, wins: Reals, losses: Reals, ties: Reals, items: int) -> _Edges:
        used = (first != second) & (wins + losses + ties > 0)
        first, second, wins, losses, ties = (x[used] for x in (first, second, wins, losses, ties))
        swap = first > second
        low, high = np.where(swap, second, first), np.where(swap, first, second)
        pairs, at = np.unique(low * items + high, return_inverse=True)
        won, lost = np.where(swap, losses, wins), np.where(swap, wins, losses)
        return cls(pairs // max(items, 1), pairs % max(items, 1), *(_sums(at, x, len(pairs)) for x in (won, lost, ties)))


class _Model:
    """The penalised likelihood at its present strengths and tie parameter."""

    def __init__(self, edges: _Edges, ties_as: Ties, l2: float, component: Ints) -> None:
        self.edges, self.ties_as, self.l2, self.component = edges, ties_as, l2, component
        self.size = len(component)
        self.strength: Reals = np.zeros(self.size)
        self.of_edge = component[edges.i]
        self.tie = self._first_tie()
        self.value = self._per_component(self.strength, self.tie)
        """Penalised log-likelihood of each component, at the present point."""

    def _first_tie(self) -> float:
        """The maximum for equal strengths; 0 without ties, infinite where there is nothing else."""
        tied, rest = float(self.edges.ties.sum()), float(self.edges.wins.sum() + self.edges.losses.sum())
        if self.ties_as == "half" or not tied:
            return 0.0
        if not rest:
            return math.inf
        return 2 * tied / rest if self.ties_as == "davidson" else 2 * math.atanh(tied / (tied + rest))

    def move_strengths(self) -> float:
        """One Newton step for all components, halved where it overshoots; the largest change."""
        if math.isinf(self.tie) or not len(self.edges.i):
            return 0.0
        slope, curve = self._by_difference(self.strength)
        gradient = self._to_items(slope) - self.l2 * self.strength
        step = self._solve(curve, gradient)
        share = np.ones(int(self.component.max()) + 1)
        for _ in range(40):
            tried = self.strength + share[self.component] * step
            value = self._per_component(tried, self.tie)
            worse = value < self.value - 1e-12 * (1 + np.abs(self.value))
            if not worse.any():
                break
            share[worse] /= 2
        self.strength, self.value = tried, value
        return float(np.abs(share[self.component] * step).max())

    def move_tie(self) -> float:
        """One Newton step of the tie parameter (log nu, or alpha), halved until it improves; its size."""
        if self.ties_as == "half" or self.tie == 0 or math.isinf(self.tie):
            return 0.0
        slope, curve = self._by_tie()
        step, log = slope / curve, self.ties_as == "davidson"
        before = float(self.value.sum())
        for _ in range(60):
            tried = self.tie * math.exp(min(step, 2.0)) if log else self.tie + step
            value = self._per_component(self.strength, tried) if tried > 0 else self.value - 1
            if float(value.sum()) >= before - 1e-12 * (1 + abs(before)):
                self.tie, self.value = tried, value
                break
            step /= 2
        return abs(step)

    def _by_difference(self, strength: Reals) -> tuple[Reals, Reals]:
        """Per edge: slope of the likelihood in D = s_i - s_j, and minus its curvature."""
        e, d = self.edges, strength[self.edges.i] - strength[self.edges.j]
        first, second, _ = _probabilities(d, self.ties_as, self.tie)
        if self.ties_as == "davidson":
            n = e.wins + e.losses + e.ties
            return (e.wins - e.losses - n * (first - second)) / 2, n * (first + second - (first - second) ** 2) / 4
        half = 0.5 if self.ties_as == "half" else 1.0
        up, down = e.wins + half * e.ties, e.losses + half * e.ties
        return up * (1 - first) - down * (1 - second), up * first * (1 - first) + down * second * (1 - second)

    def _by_tie(self) -> tuple[float, float]:
        """Slope of the likelihood in log nu (Davidson) or alpha (Rao-Kupper), and minus its curvature."""
        e, d = self.edges, self.strength[self.edges.i] - self.strength[self.edges.j]
        first, second, neither = _probabilities(d, self.ties_as, self.tie)
        if self.ties_as == "davidson":
            n = e.wins + e.losses + e.ties
            return float((e.ties - n * neither).sum()), float((n * neither * (1 - neither)).sum())
        up, down, tied = e.wins + e.ties, e.losses + e.ties, float(e.ties.sum())
        odds = math.expm1(2 * self.tie)
        slope = tied * 2 * (1 + 1 / odds) - float((up * (1 - first) + down * (1 - second)).sum())
        return slope, float((up * first * (1 - first) + down * second * (1 - second)).sum()) + tied * 4 * (1 / odds + 1 / odds**2)

    def _per_component(self, strength: Reals, tie: float) -> Reals:
        if math.isinf(tie) or not len(self.edges.i):
            return np.zeros(0)
        e, d = self.edges, strength[self.edges.i] - strength[self.edges.j]
        if self.ties_as == "davidson":
            low = np.exp(-np.abs(d) / 2)
            whole = np.log1p(low * low + tie * low) + np.abs(d) / 2
            n = e.wins + e.losses + e.ties
            value = (e.wins - e.losses) * d / 2 - n * whole + (e.ties * math.log(tie) if tie else 0.0)
        else:
            half = 0.5 if self.ties_as == "half" else 1.0
            value = (e.wins + half * e.ties) * _log_sigmoid(d - tie) + (e.losses + half * e.ties) * _log_sigmoid(-d - tie)
            if tie:
                value = value + e.ties * math.log(math.expm1(2 * tie))
        many = int(self.component.max()) + 1
        return _sums(self.of_edge, value, many) - self.l2 / 2 * _sums(self.component, strength**2, many)

    def _to_items(self, per_edge: Reals) -> Reals:
        return _sums(self.edges.i, per_edge, self.size) - _sums(self.edges.j, per_edge, self.size)

    def _solve(self, weight: Reals, right: Reals) -> Reals:
        """(Laplacian of the edge weights + l2) x = right, by conjugate gradients within each component."""
        e, many = self.edges, int(self.component.max()) + 1
        diagonal = _sums(e.i, weight, self.size) + _sums(e.j, weight, self.size) + self.l2
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)

        def dot(x: Reals, y: Reals) -> Reals:
            return _sums(self.component, x * y, many)

        x: Reals = np.zeros(self.size)
        rest = right.copy()
        way = inverse * rest
        size = dot(rest, way)
        goal = np.maximum(size * 1e-18, 1e-30)
        for _ in range(2 * int(np.bincount(self.component).max()) + 10):
            if not (size > goal).any():
                break
            image = self.l2 * way + self._to_items(weight * (way[e.i] - way[e.j]))
            bend = dot(way, image)
            reach = np.divide(size, bend, out=np.zeros_like(size), where=(size > goal) & (bend > 0))[self.component]
            x += reach * way
            rest -= reach * image
            scaled = inverse * rest
            fresh = dot(rest, scaled)
            way = scaled + np.divide(fresh, size, out=np.zeros_like(size), where=size > goal)[self.component] * way
            size = np.where(size > goal, fresh, 0.0)
        return x


def _centred(strength: Reals, component: Ints) -> Reals:
    if not len(strength):
        return strength
    mean = np.bincount(component, weights=strength) / np.bincount(component)
    centred: Reals = strength - mean[component]
    return centred


def components(first: Ints, second: Ints, items: int) -> Ints:
    """Number of the connected component of each item, 0 .. , in the order of their first items."""
    label = np.arange(items)
    while True:
        low = np.minimum(label[first], label[second])
        before = label.copy()
        np.minimum.at(label, label[first], low)
        np.minimum.at(label, label[second], low)
        while not np.array_equal(label, hop := label[label]):
            label = hop
        if np.array_equal(label, before):
            break
    numbers: Ints = np.unique(label, return_inverse=True)[1]
    return numbers


def _refuse_infinite(edges: _Edges, component: Ints) -> None:
    """Without a ridge every item of a component must be beaten (or held) by a chain of the others."""
    over = np.concatenate([edges.i[edges.wins + edges.ties > 0], edges.j[edges.losses + edges.ties > 0]])
    under = np.concatenate([edges.j[edges.wins + edges.ties > 0], edges.i[edges.losses + edges.ties > 0]])
    roots = np.unique(component, return_index=True)[1]
    for above, below in ((over, under), (under, over)):
        seen = np.zeros(len(component), dtype=bool)
        seen[roots] = True
        while (fresh := below[seen[above] & ~seen[below]]).size:
            seen[fresh] = True
        if not seen.all():
            one = int(np.flatnonzero(~seen)[0])
            raise PrefdataError(
                f"Bradley-Terry without a ridge has no finite answer: item {one} and others have only won, or only lost, "
                "against the rest; give l2 above 0, such as 0.1."
            )


def wilson(hits: int, of: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Wilson's interval for a share (95 % by default); None without observations."""
    if of == 0:
        return None
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def krippendorff_alpha(counts: Reals, level: Level = "nominal", values: Reals | None = None) -> float | None:
    """Krippendorff's alpha from a table units x values of how often each value was given to each unit.

    Units with fewer than two values do not count. None where nothing can disagree: no such unit, or one value only.

    Args:
        counts: columns in the order of the values.
        level: the distance between values: same or not, by ranks, or squared difference.
        values: the numbers behind the columns, for the level interval; default 0, 1, 2, ...
    """
    counts = counts[counts.sum(axis=1) >= 2].astype(float)
    if not counts.size:
        return None
    given = counts.sum(axis=1)
    totals = counts.sum(axis=0)
    whole = totals.sum()
    observed = (counts / (given - 1)[:, None]).T @ counts - np.diag((counts / (given - 1)[:, None]).sum(axis=0))
    expected = (np.outer(totals, totals) - np.diag(totals)) / (whole - 1)
    distance = _distances(totals, level, np.arange(len(totals), dtype=float) if values is None else values)
    by_chance = float((expected * distance).sum())
    return 1 - float((observed * distance).sum()) / by_chance if by_chance else None


def _distances(totals: Reals, level: Level, values: Reals) -> Reals:
    if level == "nominal":
        return 1.0 - np.eye(len(totals))
    middle = np.cumsum(totals) - totals / 2 if level == "ordinal" else values
    distances: Reals = (middle[:, None] - middle[None, :]) ** 2
    return distances


def cohen_kappa(table: npt.NDArray[Any]) -> float | None:
    """Cohen's kappa of two raters from their table of joint counts; None where chance alone explains everything."""
    shares = table / table.sum() if table.sum() else table
    chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
    return (float(np.trace(shares)) - chance) / (1 - chance) if table.sum() and chance < 1 else None


def spearman(x: Reals, y: Reals) -> float | None:
    """Spearman's rank correlation; equal values share their mean rank. None where one side is constant."""
    ranked = [pl.Series(v).rank("average").to_numpy() for v in (x, y)]
    if len(x) < 2 or any(r.min() == r.max() for r in ranked):
        return None
    return float(np.corrcoef(ranked[0], ranked[1])[0, 1])


def draws(ids: pl.Series, seed: int) -> Reals:
    """A number in [0, 1) per id (UUID text) that depends on the id and the seed only, wherever the id stands."""
    low = ids.str.slice(19, 4) + ids.str.slice(24, 12)
    bits = low.str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    with np.errstate(over="ignore"):
        bits = _mixed(bits ^ _mixed(np.array([seed % 2**64], dtype=np.uint64)))
    drawn: Reals = (bits >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return drawn


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
