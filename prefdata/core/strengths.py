"""Strengths from comparisons: Bradley-Terry with ties, for any number of items in any number of islands.

Everything works on counts in numpy arrays, sparse in the pairs of items that were compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from prefdata.core.cast import tally
from prefdata.core.errors import PrefdataError
from prefdata.core.games import Edges
from prefdata.core.stats import Ints, Reals

Ties = Literal["davidson", "rao_kupper", "half"]
_DENSE = 400
"""Up to so many items a Newton step is one dense solution."""


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
    edges = Edges.collect(first, second, wins, losses, ties, items)
    return fit_edges(edges, ties_as=ties_as, l2=l2, tolerance=tolerance, limit=limit)


def fit_edges(edges: Edges, *, ties_as: Ties = "davidson", l2: float = 0.1, tolerance: float = 1e-7, limit: int = 200) -> Strengths:
    """The same from comparisons that are collected already."""
    component = edges.component
    if l2 == 0:
        _refuse_infinite(edges, component)
    model = _Model(edges, ties_as, l2, component)
    rounds = 0
    step = math.inf
    while step > tolerance:
        if rounds == limit:
            raise PrefdataError(f"Bradley-Terry did not settle in {limit} steps (last step {step:.2g}); give a larger l2, such as 0.1.")
        step = model.move()
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


def _table(edges: Edges, weight: Reals, l2: float, among: Ints) -> Reals:
    """Laplacian of the edge weights + l2, plus 1 wherever two items are of one component, which leaves x that sum to 0 alone
    and makes the table well-conditioned; rows and columns for the items `among`, which hold every edge."""
    at = np.zeros(edges.items, dtype=np.int64)
    at[among] = np.arange(len(among))
    component = edges.component[among]
    table: Reals = (component[:, None] == component).astype(np.float64)
    table[at[edges.i], at[edges.j]] -= weight
    table[at[edges.j], at[edges.i]] -= weight
    table[np.arange(len(among)), np.arange(len(among))] += l2 + edges.both_ways(weight, weight)[among]
    return table


def _sigmoid(x: Reals) -> Reals:
    low = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, low) / (1.0 + low)


def _log_sigmoid(x: Reals) -> Reals:
    return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))


class _Slopes(NamedTuple):
    """First derivatives of the log-likelihood, and second ones with their signs turned."""

    d: Reals
    """Per edge, in D = s_i - s_j."""
    dd: Reals
    t: float
    """In the tie parameter: log nu (Davidson) or alpha (Rao-Kupper)."""
    tt: float
    dt: Reals


class _Model:
    """The penalised likelihood at its present strengths and tie parameter."""

    def __init__(self, edges: Edges, ties_as: Ties, l2: float, component: Ints) -> None:
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

    def move(self) -> float:
        """One Newton step in everything at once; where that is no gain, in the strengths and then in the tie parameter.

        Returns the largest change.
        """
        if math.isinf(self.tie) or not len(self.edges.i):
            return 0.0
        slopes = self._slopes()
        gradient = self._to_items(slopes.d) - self.l2 * self.strength
        step = self._solve(slopes.dd, gradient)
        if not self.tie:
            return self._move_strengths(step)
        together = self._move_together(slopes, step)
        return max(self._move_strengths(step), self._move_tie()) if together is None else together

    def _move_together(self, slopes: _Slopes, alone: Reals) -> float | None:
        """The joint step by the Schur complement of the tie parameter; None where it overshoots."""
        cross = self._to_items(slopes.dt)
        bent = self._solve(slopes.dd, cross)
        by = (slopes.t - float(cross @ alone)) / (slopes.tt - float(cross @ bent))
        tie = self.tie * math.exp(min(by, 2.0)) if self.ties_as == "davidson" else self.tie + by
        if not (tie > 0 and math.isfinite(by)):
            return None
        step = alone - by * bent
        value = self._per_component(self.strength + step, tie)
        if self._loses(float(value.sum()), float(self.value.sum())):
            return None
        self.strength, self.tie, self.value = self.strength + step, tie, value
        return max(float(np.abs(step).max()), abs(by))

    def _move_strengths(self, step: Reals) -> float:
        """The strengths' step, halved in each component until it does not overshoot there."""
        share = np.ones(int(self.component.max()) + 1)
        for _ in range(40):
            tried = self.strength + share[self.component] * step
            value = self._per_component(tried, self.tie)
            worse = self._loses(value, self.value)
            if not worse.any():
                break
            share[worse] /= 2
        self.strength, self.value = tried, value
        return float(np.abs(share[self.component] * step).max())

    def _move_tie(self) -> float:
        """The tie parameter's step, halved until it does not overshoot."""
        slopes = self._slopes()
        by = slopes.t / slopes.tt
        for _ in range(60):
            tie = self.tie * math.exp(min(by, 2.0)) if self.ties_as == "davidson" else self.tie + by
            if tie > 0:
                value = self._per_component(self.strength, tie)
                if not self._loses(float(value.sum()), float(self.value.sum())):
                    self.tie, self.value = tie, value
                    break
            by /= 2
        return abs(by)

    @staticmethod
    def _loses(value: Any, before: Any) -> Any:
        """Whether a likelihood fell by more than rounding."""
        return value < before - 1e-12 * (1 + np.abs(before))

    def _slopes(self) -> _Slopes:
        e, d = self.edges, self.strength[self.edges.i] - self.strength[self.edges.j]
        first, second, neither = _probabilities(d, self.ties_as, self.tie)
        if self.ties_as == "davidson":
            n, lead = e.wins + e.losses + e.ties, first - second
            return _Slopes(
                d=(e.wins - e.losses - n * lead) / 2,
                dd=n * (first + second - lead**2) / 4,
                t=float((e.ties - n * neither).sum()),
                tt=float((n * neither * (1 - neither)).sum()),
                dt=-n * neither * lead / 2,
            )
        half = 0.5 if self.ties_as == "half" else 1.0
        up, down, tied = e.wins + half * e.ties, e.losses + half * e.ties, float(e.ties.sum())
        above, below = up * first * (1 - first), down * second * (1 - second)
        odds = math.expm1(2 * self.tie) if self.tie else math.inf
        return _Slopes(
            d=up * (1 - first) - down * (1 - second),
            dd=above + below,
            t=tied * 2 * (1 + 1 / odds) - float((up * (1 - first) + down * (1 - second)).sum()),
            tt=float((above + below).sum()) + tied * 4 * (1 / odds + 1 / odds**2),
            dt=below - above,
        )

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
        return tally(self.of_edge, many, value) - self.l2 / 2 * tally(self.component, many, strength**2)

    def _to_items(self, per_edge: Reals) -> Reals:
        return tally(self.edges.i, self.size, per_edge) - tally(self.edges.j, self.size, per_edge)

    def _solve(self, weight: Reals, right: Reals) -> Reals:
        """(Laplacian of the edge weights + l2) x = right; of many items by conjugate gradients within each component.

        `right` and x sum to 0 within each component.
        """
        if self.size <= _DENSE:
            return np.asarray(np.linalg.solve(_table(self.edges, weight, self.l2, np.arange(self.size)), right), dtype=np.float64)
        e, many = self.edges, int(self.component.max()) + 1
        diagonal = tally(e.i, self.size, weight) + tally(e.j, self.size, weight) + self.l2
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)

        def dot(x: Reals, y: Reals) -> Reals:
            return tally(self.component, many, x * y)

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


def _refuse_infinite(edges: Edges, component: Ints) -> None:
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


def errors(edges: Edges, model: Strengths, ties_as: Ties, l2: float, most: int = 2000) -> Reals:
    """Standard error of each centred log-strength, from the inverse second derivative with the tie parameter held.

    NaN for items that were never compared, and for all where there are more than `most` of them (the inverse is dense).
    """
    met = np.flatnonzero(edges.both_ways(edges.met, edges.met) > 0)
    out: Reals = np.full(edges.items, np.nan)
    if not len(met) or len(met) > most or math.isinf(model.tie):
        return out
    fitted = _Model(edges, ties_as, l2, edges.component)
    fitted.strength, fitted.tie = model.strength, model.tie
    curve = fitted._slopes().dd
    size = np.bincount(edges.component)[edges.component[met]]
    # Strengths are centred within their component: the variance of its mean is taken out.
    variance = np.diag(np.linalg.inv(_table(edges, curve, l2, met))) - 1 / (size * (l2 + size))
    out[met] = np.sqrt(np.maximum(variance, 0.0))
    return out
