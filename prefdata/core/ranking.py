"""Scores of items from comparisons without a likelihood: win rate, Borda, rank centrality, Elo; and how often they run in circles.

Work over many small graphs (one per prompt) is done for all graphs of one size at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prefdata.core.cast import tally
from prefdata.core.errors import PrefdataError
from prefdata.core.games import Edges
from prefdata.core.stats import Ints, Reals

_LARGEST = 3000
"""Items of one connected component for which a dense table is still made."""
_CELLS = 4_000_000


def win_rates(edges: Edges) -> Reals:
    """Mean over the opponents an item met of its share of wins against each, ties half; NaN for an item that met nobody.

    The score of self-play optimisation (Swamy et al. 2024), the item itself left out.
    """
    share = (edges.wins + edges.ties / 2) / edges.met
    opponents = edges.both_ways(np.ones(len(share)), np.ones(len(share)))
    out: Reals = np.full(edges.items, np.nan)
    np.divide(edges.both_ways(share, 1 - share), opponents, out=out, where=opponents > 0)
    return out


def borda(ballot: Ints, first: Ints, second: Ints, points: Reals, items: int) -> Reals:
    """Mean over ballots of an item's share of points in each; NaN for an item on no ballot.

    Args:
        ballot: per comparison, whose ballot it stands on.
        first, second: the two items.
        points: what the first gets of one point: 1, 0.5 or 0.
    """
    entry, at = np.unique(np.concatenate([ballot * items + first, ballot * items + second]), return_inverse=True)
    share = tally(at, len(entry), np.concatenate([points, 1 - points])) / np.maximum(tally(at, len(entry)), 1)
    item = entry % max(items, 1)
    on = tally(item, items)
    out: Reals = np.full(items, np.nan)
    np.divide(tally(item, items, share), on, out=out, where=on > 0)
    return out


class Circles(NamedTuple):
    """Triples of items all three of which met."""

    circular: int
    """x over y over z over x, each by more votes than the other way."""
    triples: int


def circles(edges: Edges) -> Circles | None:
    """How many triples run in a circle; None where a component is too large to look at all of them."""
    if not len(edges.i):
        return Circles(0, 0)
    if int(np.bincount(edges.component).max()) > _LARGEST:
        return None
    lead = edges.wins - edges.losses
    round_, whole = 0.0, 0.0
    one = np.ones(len(lead))
    for _, (over, met) in _tables(edges, ((lead > 0) * one, (lead < 0) * one), (one, one)):
        round_ += float(np.einsum("gij,gji->", over @ over, over)) / 3
        whole += float(np.einsum("gij,gji->", met @ met, met)) / 6
    return Circles(round(round_), round(whole))


def _tables(edges: Edges, *each: tuple[Reals, Reals]) -> Iterator[tuple[Ints, list[Reals]]]:
    """Dense tables of edge values, for all components of a size at once: their items (g, n) and each table (g, n, n).

    Args:
        each: what stands in the tables: value for i over j, value for j over i.
    """
    size = np.bincount(edges.component)
    order = np.argsort(edges.component, kind="stable")
    start = np.cumsum(size) - size
    place = np.empty(edges.items, dtype=np.int64)
    place[order] = np.arange(edges.items) - start[edges.component[order]]
    of_edge = edges.component[edges.i]
    for n in np.unique(size[size > 1]):
        chosen = np.flatnonzero(size == n)
        step = max(1, _CELLS // int(n * n))
        for part in (chosen[k : k + step] for k in range(0, len(chosen), step)):
            number = np.full(len(size), -1)
            number[part] = np.arange(len(part))
            at = np.flatnonzero(number[of_edge] >= 0)
            g, i, j = number[of_edge[at]], place[edges.i[at]], place[edges.j[at]]
            made = []
            for over, under in each:
                table = np.zeros((len(part), n, n))
                table[g, i, j], table[g, j, i] = over[at], under[at]
                made.append(table)
            yield order[start[part][:, None] + np.arange(n)], made


def rank_centrality(edges: Edges, prior: float) -> Reals:
    """Log of the share of time a walk spends on each item, mean 0 within a component (Negahban, Oh & Shah 2012, section 2).

    The walk goes from i to j at the rate of j's share of wins over i. `prior` adds that many wins to both sides of every
    pair that met: without it the walk never leaves an item that lost nothing, and all others have no share at all.

    Raises:
        PrefdataError: a component is too large for a dense table.
    """
    if len(edges.i) and int(np.bincount(edges.component).max()) > _LARGEST:
        raise PrefdataError(f"rank_centrality takes at most {_LARGEST:,} items that hang together; use bradley_terry for more.")
    met = edges.met + 2 * prior
    won, lost = (edges.wins + edges.ties / 2 + prior) / met, (edges.losses + edges.ties / 2 + prior) / met
    score = np.zeros(edges.items)
    for members, (rate,) in _tables(edges, (lost, won)):  # from i to j where j wins
        n = rate.shape[1]
        flow = rate - np.eye(n) * rate.sum(axis=2)[:, :, None]
        flow[:, :, -1] = 1.0  # the shares sum to 1, in place of one of the balance equations
        right = np.zeros((len(flow), n, 1))
        right[:, -1] = 1.0
        share = np.linalg.solve(flow.transpose(0, 2, 1), right)[:, :, 0]
        level = np.log(np.maximum(share, 1e-300))
        score[members] = level - level.mean(axis=1, keepdims=True)
    return score


class Ratings(NamedTuple):
    """Elo ratings over several orders of the same games."""

    mean: Reals
    spread: Reals
    """Standard deviation over the orders: how much of a rating is an accident of the order."""


def elo(
    first: Ints, second: Ints, points: Reals, orders: npt.NDArray[np.int64], *, items: int, k: float, initial: float, scale: float
) -> Ratings:
    """Elo's running update, exact for each order; games of one order that share no item are played at once.

    Args:
        first, second: the two items of each game, different ones.
        points: what the first got: 1, 0.5 or 0.
        orders: (orders, games): in which order the games are played.
        items: how many items.
        k: largest change by one game.
        initial: rating at the start.
        scale: difference of ratings at which the better one is expected to win ten times as often.
    """
    step = max(1, _CELLS // max(orders.shape[1], 1))
    rated = [_elo(first, second, points, orders[n : n + step], items, k, initial, scale) for n in range(0, len(orders), step)]
    lanes = np.concatenate(rated)
    return Ratings(lanes.mean(axis=0), lanes.std(axis=0))


def _elo(
    first: Ints, second: Ints, points: Reals, orders: npt.NDArray[np.int64], items: int, k: float, initial: float, scale: float
) -> Reals:
    """(orders, items): ratings at the end of each order."""
    many, games = orders.shape
    rating = np.full(many * items, float(initial))
    lane = np.arange(many)[:, None] * items
    one, two, got = (first[orders] + lane).ravel(), (second[orders] + lane).ravel(), points[orders].ravel()
    # every item's own games in their order, one stretch after the other; a sentinel stands after the last
    touch = np.concatenate([one, two])
    game = np.concatenate([np.arange(many * games)] * 2)
    queue = game[np.lexsort((game, touch))]
    count = np.bincount(touch, minlength=many * items)
    end = np.cumsum(count)
    front = end - count
    none = many * games
    queue = np.append(queue, none)
    upcoming = np.where(front < end, queue[np.minimum(front, len(queue) - 1)], none)
    ready = np.flatnonzero(upcoming < none)
    while ready.size:
        g = upcoming[ready]
        now = np.unique(g[(upcoming[one[g]] == g) & (upcoming[two[g]] == g)])
        x, y = one[now], two[now]
        change = k * (got[now] - 1 / (1 + 10 ** ((rating[y] - rating[x]) / scale)))
        rating[x] += change
        rating[y] -= change
        ready = np.concatenate([x, y])
        front[ready] += 1
        upcoming[ready] = np.where(front[ready] < end[ready], queue[np.minimum(front[ready], len(queue) - 1)], none)
        ready = ready[upcoming[ready] < none]
    return rating.reshape(many, items)
