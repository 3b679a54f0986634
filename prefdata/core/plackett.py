"""Plackett-Luce: strengths from whole rankings, and from pairs where a ballot ranks no more than two."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefdata.core.cast import tally
from prefdata.core.descent import descend
from prefdata.core.games import Edges
from prefdata.core.stats import Ints, Reals


class Rankings(NamedTuple):
    """What ballots say when read as a whole."""

    orders: list[Ints]
    """Complete rankings of three items or more, best first, one table (ballots, items) per length."""
    ranked: Ints
    """Per comparison 1 where it is part of a ranking, else 0: it counts as a pair."""


def rankings(ballot: Ints, first: Ints, second: Ints, points: Reals, items: int) -> Rankings:
    """Ballots that compare every two of their items once, without ties or circles, become rankings.

    Args:
        ballot: per comparison, whose ballot it stands on, 0 ...
        first, second: the two items, different ones.
        points: what the first gets of one point: 1, 0.5 or 0.
        items: how many items there are.
    """
    many = int(ballot.max(initial=-1)) + 1
    entry, at = np.unique(np.concatenate([ballot * items + first, ballot * items + second]), return_inverse=True)
    of = entry // max(items, 1)
    size, votes, ties = tally(of, many), tally(ballot, many), tally(ballot, many, (points == 0.5) * 1.0)
    met = np.unique(np.minimum(first, second) * items + np.maximum(first, second), return_inverse=True)[1]
    once = np.unique(ballot * (int(met.max(initial=0)) + 1) + met) // (int(met.max(initial=0)) + 1)
    whole = (size > 2) & (ties == 0) & (votes == size * (size - 1) / 2) & (tally(once, many) == votes)
    wins = tally(at, len(entry), np.concatenate([points, 1 - points]))
    order = np.lexsort((-wins, of))
    place = np.arange(len(entry)) - (np.cumsum(size) - size)[of].astype(np.int64)
    # In a tournament without circles the winners of n-1, n-2, ..., 0 games stand in that order, and in no other.
    off = tally(of, many, (wins[order] != size[of] - 1 - place) * 1.0) > 0
    whole &= ~off
    listed, tables = entry[order] % max(items, 1), []
    for n in np.unique(size[whole]).astype(int):
        tables.append(listed[(whole & (size == n))[of]].reshape(-1, n))
    return Rankings(tables, whole[ballot].astype(np.int64))


def plackett_luce(orders: list[Ints], pairs: Edges, component: Ints, *, l2: float, tolerance: float = 1e-12, limit: int = 1000) -> Reals:
    """Log-strengths of highest likelihood less l2/2 times their squares, mean 0 within a component.

    P(ranking) = product over its places of e^s / sum of e^s over those still to be placed (Luce 1959; Plackett 1975); a pair
    is a ranking of two, a tie half of each of its two orders.

    Args:
        orders: tables of rankings, best first.
        pairs: comparisons that are part of no ranking.
        component: of every item, by rankings and pairs together.
        l2: ridge, above 0.
    """
    up, down = pairs.wins + pairs.ties / 2, pairs.losses + pairs.ties / 2
    seen = pairs.both_ways(up + down, up + down)
    for table in orders:
        seen += tally(table.ravel(), pairs.items, np.full(table.size, table.shape[1] - 1.0))

    def slope(s: Reals) -> tuple[float, Reals]:
        d = s[pairs.i] - s[pairs.j]
        value = float((up * np.logaddexp(0, -d) + down * np.logaddexp(0, d)).sum()) + l2 / 2 * float(s @ s)
        pull = (up + down) * 0.5 * (1 + np.tanh(d / 2)) - up
        gradient = tally(pairs.i, pairs.items, pull) - tally(pairs.j, pairs.items, pull) + l2 * s
        for table in orders:
            ranked = s[table]
            rest = np.logaddexp.accumulate(ranked[:, ::-1], axis=1)[:, ::-1][:, :-1]
            value += float(rest.sum() - ranked[:, :-1].sum())
            top = ranked.max(axis=1, keepdims=True)
            left = np.cumsum(np.exp(top - rest), axis=1)
            share = np.exp(ranked - top) * np.concatenate([left, left[:, -1:]], axis=1)
            share[:, :-1] -= 1
            gradient += tally(table.ravel(), pairs.items, share.ravel())
        return value, gradient

    found = descend(slope, np.zeros(pairs.items), scale=1 / (l2 + seen / 4), tolerance=tolerance, limit=limit).x
    mean = tally(component, int(component.max(initial=-1)) + 1, found) / np.maximum(np.bincount(component), 1) if pairs.items else found
    return found - mean[component] if pairs.items else found
