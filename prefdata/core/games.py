"""Comparisons as a graph: items, the pairs of them that met, and which items hang together.

An item is a response among those of its prompt, or a model over all prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from prefdata.core.cast import Cast, codes, tally
from prefdata.core.labels import names as listing
from prefdata.core.stats import Bools, Ints, Reals

Of = Literal["prompt", "model"]
_DENSE = 1 << 22
"""Up to this many pairs of items are counted in a table; beyond, the pairs that met are sorted out."""


@dataclass(frozen=True)
class Edges:
    """Compared pairs of items, each once, i < j; `items` in all, compared or not."""

    i: Ints
    j: Ints
    wins: Reals
    losses: Reals
    ties: Reals
    items: int

    @classmethod
    def collect(cls, first: Ints, second: Ints, wins: Reals, losses: Reals, ties: Reals, items: int) -> Edges:
        """From comparisons of `first` with `second`, one or many in an entry; an item against itself is left out."""
        if items * items <= _DENSE:  # one table of all ordered pairs, folded along its diagonal
            code = first * items + second
            won, lost, tied = (tally(code, items * items, x).reshape(items, items) for x in (wins, losses, ties))
            i, j = np.nonzero(np.triu(won + lost + tied + (won + lost + tied).T, 1))
            return cls(i, j, won[i, j] + lost[j, i], lost[i, j] + won[j, i], tied[i, j] + tied[j, i], items)
        used = (first != second) & (wins + losses + ties > 0)
        if not used.all():
            first, second, wins, losses, ties = (x[used] for x in (first, second, wins, losses, ties))
        swap = first > second
        pairs, at = np.unique(np.where(swap, second, first) * items + np.where(swap, first, second), return_inverse=True)
        won, lost, tied = (tally(at, len(pairs), x) for x in (np.where(swap, losses, wins), np.where(swap, wins, losses), ties))
        return cls(pairs // items, pairs % items, won, lost, tied, items)

    @property
    def met(self) -> Reals:
        """Comparisons per edge."""
        return self.wins + self.losses + self.ties

    @cached_property
    def component(self) -> Ints:
        return components(self.i, self.j, self.items)

    def both_ways(self, of_i: Reals, of_j: Reals) -> Reals:
        """Per item the sum over its edges, seen from its own side."""
        return tally(self.i, self.items, of_i) + tally(self.j, self.items, of_j)

    @cached_property
    def perfect(self) -> Bools:
        """(items, 2): compared, and won all; compared, and lost all."""
        won, lost, met = self.both_ways(self.wins, self.losses), self.both_ways(self.losses, self.wins), self.both_ways(self.met, self.met)
        return np.stack([(met > 0) & (won == met), (met > 0) & (lost == met)], axis=1)


@dataclass(frozen=True)
class Games:
    """Pairs and what was said about them, the two sides as items.

    Attributes:
        pair_id: id per pair.
        first, second: items of a and b, -1 where the item has no name.
        wins, losses, ties: votes for a, for b and for neither.
        names: of the items.
    """

    pair_id: pl.Series
    first: Ints
    second: Ints
    wins: Reals
    losses: Reals
    ties: Reals
    names: pl.Series

    @classmethod
    def of(cls, pool: pl.DataFrame, level: Of) -> Games:
        """From the runner's pool: one row per pair, with n_a, n_b, n_tie, n_both_bad and the two sides."""
        first, second, names = sides(pool, level)
        wins, losses = (pool[name].cast(pl.Float64).to_numpy() for name in ("n_a", "n_b"))
        return cls(pool["id"], first, second, wins, losses, (pool["n_tie"] + pool["n_both_bad"]).cast(pl.Float64).to_numpy(), names)

    @classmethod
    def of_votes(cls, votes: pl.DataFrame, level: Of) -> tuple[Games, Cast, Ints]:
        """From the runner's votes: the pairs voted on, the votes, and per pair the number of its prompt."""
        cast = Cast.of(votes)
        rows = votes.unique("id", keep="first", maintain_order=True)
        first, second, names = sides(rows, level)
        a, b, tie = cast.counts.T
        return cls(cast.pairs, first, second, a, b, tie, names), cast, codes(rows["prompt_id"])[0]

    @property
    def items(self) -> int:
        return len(self.names)

    @property
    def votes(self) -> Reals:
        """Votes per pair."""
        return self.wins + self.losses + self.ties

    @cached_property
    def known(self) -> Bools:
        """Pairs of two different items."""
        named: Bools = (self.first != self.second) & (self.first >= 0) & (self.second >= 0)
        return named

    @cached_property
    def edges(self) -> Edges:
        if self.known.all():
            return Edges.collect(self.first, self.second, self.wins, self.losses, self.ties, self.items)
        known = self.known
        return Edges.collect(self.first[known], self.second[known], self.wins[known], self.losses[known], self.ties[known], self.items)

    @cached_property
    def comparable(self) -> Bools:
        """Pairs whose items hang together by comparisons."""
        if not self.edges.component.any():  # all items hang together
            return self.known
        out = self.known.copy()
        out[out] = self.edges.component[self.first[out]] == self.edges.component[self.second[out]]
        return out

    def differences(self, score: Reals) -> Reals:
        """Score of a minus score of b, NaN where they do not compare."""
        if self.comparable.all():
            return score.take(self.first) - score.take(self.second)
        out = np.full(len(self.first), np.nan)
        at = self.comparable
        out[at] = score[self.first[at]] - score[self.second[at]]
        return out


def sides(rows: pl.DataFrame, level: Of) -> tuple[Ints, Ints, pl.Series]:
    """Items of a and of b, -1 for a model without a name, and the items' names."""
    a, b = (rows[name] for name in (("a_id", "b_id") if level == "prompt" else ("a_model", "b_model")))
    (first, ours), (second, theirs) = codes(a), codes(b)
    every = pl.concat([ours, theirs.alias(ours.name)]).unique(maintain_order=True)
    named = every.filter(every.is_not_null() & (every != ""))
    at = named.to_frame("name").with_row_index("at")

    def numbered(values: pl.Series) -> Ints:
        found = values.to_frame("name").join(at, on="name", how="left", maintain_order="left")["at"]
        return found.cast(pl.Int64).fill_null(-1).to_numpy()

    return numbered(ours)[first], numbered(theirs)[second], named


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


class Plays(NamedTuple):
    """Votes on pairs of two different items, one entry each."""

    ballot: Ints
    """All that one annotator said about one prompt is one ballot."""
    first: Ints
    second: Ints
    points: Reals
    """What the first gets of one point: 1, 0.5 or 0."""


def plays(games: Games, cast: Cast, prompt: Ints) -> Plays:
    """The votes of `Games.of_votes` one by one."""
    kept = games.known[cast.pair] if cast.size else np.zeros(0, dtype=bool)
    pair, who, said = cast.pair[kept], cast.who[kept], cast.said[kept]
    ballot = np.unique(who * (int(prompt.max(initial=0)) + 1) + prompt[pair], return_inverse=True)[1]
    return Plays(ballot, games.first[pair], games.second[pair], np.array([1.0, 0.0, 0.5])[said])


def told(games: Games, level: Of) -> list[str | None]:
    """Sentences on what comparisons alone cannot settle: models that never met, that won or lost everything, or have no name."""
    edges = games.edges
    if level == "prompt":
        return []
    met = edges.both_ways(edges.met, edges.met) > 0
    islands = len(np.unique(edges.component[met]))
    won, lost = (listing(games.names.filter(pl.Series(edges.perfect[:, side]))) for side in (0, 1))
    unnamed = int((~games.known & (games.votes > 0)).sum())
    finite = "the strength is what the method makes of infinity"
    return [
        f"the comparisons fall into {islands} groups of models that never met; strengths compare within a group only."
        if islands > 1
        else None,
        f"won every comparison: {won}; {finite}." if won else None,
        f"lost every comparison: {lost}; {finite}." if lost else None,
        f"{unnamed:,} voted pairs have no label: a model without a name, or one against itself." if unnamed else None,
    ]


def standings(games: Games, **scores: Reals) -> dict[str, Any]:
    """Columns for a table of items: model, votes, wins, losses, ties and scores; items that never met are left out."""
    e = games.edges
    met = e.both_ways(e.met, e.met)
    columns = {
        "votes": met,
        "wins": e.both_ways(e.wins, e.losses),
        "losses": e.both_ways(e.losses, e.wins),
        "ties": e.both_ways(e.ties, e.ties),
        **scores,
    }
    return {"model": games.names.filter(pl.Series(met > 0)), **{name: values[met > 0] for name, values in columns.items()}}
