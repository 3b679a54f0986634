"""Routing replayed: a set with votes by people and by an AI, bought from the people bit by bit in the order of a router.

Every pair begins with the AI's label. A router asks for pairs, the people's votes on them are shown to it, their label
replaces the AI's, and it is asked again, until the budget is spent. What is counted is the share of right labels after
each step. The routers are those of the shelf, called as a recipe would call them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from prefdata.core import catalogue, routing
from prefdata.core.bands import Line, Panel, draw
from prefdata.core.cast import leaders
from prefdata.core.columns import LABEL, TEXTS, Keys, relation
from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.core.labels import CLASSES
from prefdata.core.leads import Curve, Seen, compared
from prefdata.core.method import Method
from prefdata.core.stats import Ints, Reals, draws
from prefdata.core.store import Store
from prefdata.core.traits import Bits

RANDOM = "random"
FEWEST = 20
"""A replay of fewer pairs says nothing."""
_OTHERS = 2
"""Votes that must remain to say what is right, where one vote is bought."""


@dataclass(frozen=True)
class Setting:
    """What is replayed.

    Attributes:
        routers: methods of the shelf acquire; `random` is always among them.
        ai: annotators or kinds whose plurality is the AI's label; empty: every machine.
        people: annotators or kinds whose votes are the people's, with a minus before them whose are not; empty: every person.
        human: what is bought with a pair: the label of all its votes, which then is right by definition, or one vote drawn by
            chance, held against the plurality of the others.
        ties: whether pairs that people call a tie count or are left out.
        share: the largest budget, as a share of the pairs.
        step: after which share the router is asked again.
        seeds: how many replays of each router.
        resample: what is drawn for the intervals: pairs, or prompts with all their pairs.
    """

    routers: Sequence[str]
    ai: Sequence[str] = ()
    people: Sequence[str] = ()
    human: Literal["all", "one"] = "all"
    ties: Literal["count", "drop"] = "count"
    share: float = 0.5
    step: float = 0.05
    seeds: int = 20
    resample: Literal["pair", "prompt"] = "pair"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BadValue("the largest share", self.share, "above 0 and at most 1")
        if not 0 < self.step <= self.share:
            raise BadValue("the step", self.step, f"above 0 and at most the largest share, {self.share:g}")
        if self.seeds < 1:
            raise BadValue("seeds", self.seeds, "1 or more")

    @property
    def shares(self) -> list[float]:
        """0, the steps, and the largest share."""
        steps = [round(number * self.step, 10) for number in range(int(self.share / self.step + 1e-9) + 1)]
        return steps if steps[-1] >= self.share - 1e-9 else [*steps, self.share]

    @property
    def bought_until(self) -> float:
        """Share up to which pairs are bought: a resample may need more of them than stand in it."""
        return 1.0 if self.resample == "prompt" else min(1.0, self.share + max(self.step, 0.05))


@dataclass(frozen=True)
class Replayed:
    """The curves of all routers, the best first, and what they were computed on."""

    pairs: int
    prompts: int
    ai_accuracy: float
    human_accuracy: float
    shares: list[float]
    curves: list[Curve]
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Router -> why it could not be replayed."""


@dataclass(frozen=True)
class _World:
    """One seed's pool: what a router may see at once, what it must buy, and what is right."""

    rows: pl.DataFrame
    machine_voices: pl.Series
    all_voices: pl.Series
    machines: Reals
    people: Reals
    ai_right: Bits
    human_right: Bits
    places: Ints
    """Of these pairs in the whole pool."""

    def seen(self, bought: Bits) -> pl.DataFrame:
        """The rows as they stand once people have voted on the pairs bought; labels are shares of the votes known by then."""
        counts = self.machines + bought[:, None] * self.people
        total = counts.sum(axis=1)
        with np.errstate(invalid="ignore"):
            share = counts / total[:, None]
        winner = leaders(counts)
        numbers = {"p_a": share[:, 0], "p_tie": share[:, 2], "margin": np.abs(share[:, 0] - share[:, 1]), "confidence": share.max(axis=1)}
        whole = {
            "n": total,
            "n_a": counts[:, 0],
            "n_b": counts[:, 1],
            "n_tie": counts[:, 2],
            "n_both_bad": np.zeros(len(total)),
            "votes": total,
        }
        return self.rows.with_columns(
            pl.Series("voices", self.machine_voices.zip_with(pl.Series(~bought), self.all_voices)),
            pl.Series("winner", [CLASSES[w] if w >= 0 else None for w in winner], dtype=pl.String),
            *(pl.Series(name, values, nan_to_null=True) for name, values in numbers.items()),
            *(pl.Series(name, values.astype(np.int64)) for name, values in whole.items()),
        )


def replay(store: Store, setting: Setting, seed: int = 0, watch: Callable[[str, int], None] | None = None) -> Replayed:
    """Replay every router on the pairs of a store that have votes by people and by the AI.

    Args:
        seed: of everything random; replays use it and the numbers after it.
        watch: told the router and the replay that begin.

    Raises:
        PrefdataError: too few pairs have both, or no router could be replayed.
    """
    names = list(dict.fromkeys((RANDOM, *setting.routers)))
    methods = {name: catalogue.find("acquire", name) for name in names}
    pool, skipped = _pool(store, methods)
    _known(pool, setting)
    seeds = range(seed, seed + setting.seeds)
    worlds = [_world(pool, setting, one) for one in (seeds if setting.human == "one" else [seed])]
    worlds = worlds if setting.human == "one" else worlds * setting.seeds
    shares = setting.shares
    bought: dict[str, list[Ints]] = {}
    for name in names:
        if name not in skipped:
            bought[name] = []
            for number, (one, world) in enumerate(zip(seeds, worlds, strict=True)):
                if watch:
                    watch(name, number)
                bought[name].append(_order(methods[name], world, setting, one))
    seen = [Seen(world.places, world.ai_right, world.human_right) for world in worlds]
    units = pool["prompt_id"].rank("dense").to_numpy().astype(np.int64) - 1 if setting.resample == "prompt" else np.arange(pool.height)
    curves = compared(bought, seen, shares, units, RANDOM, seed)
    first = worlds[0]
    return Replayed(
        pairs=len(first.places),
        prompts=pool["prompt_id"][first.places].n_unique(),
        ai_accuracy=float(np.mean([world.ai_right.mean() for world in worlds])),
        human_accuracy=float(np.mean([world.human_right.mean() for world in worlds])),
        shares=shares,
        curves=sorted(curves, key=lambda curve: -(curve.mean_lead[0] if curve.mean_lead else curve.lead[-1])),
        skipped=skipped,
    )


def _pool(store: Store, methods: Mapping[str, Method]) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows that the routers need together, and the routers whose columns are not in the store."""
    keys, skipped = Keys.newest(store), {}
    names = {"pair_id": None, "prompt_id": None}
    for router, method in methods.items():
        wanted = [n for n in routing.columns(method, method.bind({})) if n not in LABEL]
        try:
            relation("pair", wanted, keys)
            names |= dict.fromkeys(wanted)
        except PrefdataError as error:
            skipped[router] = str(error)
    narrow = [name for name in names if name not in TEXTS]
    rel = routing.gathered(narrow, keys, ())
    return routing.with_texts(store, rel, [name for name in names if name in TEXTS], keys), skipped


def _known(pool: pl.DataFrame, setting: Setting) -> None:
    """Refuse names that nobody in the pool has."""
    said = routing.spoken(pool)
    names = {*said["annotator_id"], *said["kind"]}
    for option, listed in (("--ai", setting.ai), ("--people", [who.removeprefix("-") for who in setting.people])):
        for who in listed:
            if who not in names:
                raise UnknownName(f"annotator or kind of {option}:", who, names)


def _world(pool: pl.DataFrame, setting: Setting, seed: int) -> _World:
    """The pairs on which both have spoken, what each said, and what is right."""
    said = routing.spoken(pool).with_row_index("voice")
    machines, people = said.filter(~routing.people()), said.filter(_chosen(setting.people))
    ai = leaders(routing.tally(said.filter(routing.named(setting.ai)), pool.height))
    spoke = routing.tally(said.filter(routing.named(setting.ai)), pool.height).sum(axis=1) > 0
    if setting.human == "one":
        drawn = np.random.default_rng(seed).random(said.height)[people["voice"].to_numpy()]
        ranked = people.with_columns(drawn=pl.Series(drawn)).sort("place", "drawn")
        people = ranked.unique("place", keep="first", maintain_order=True)
        others = routing.tally(ranked.join(people.select("voice"), on="voice", how="anti"), pool.height)
        truth = np.where(others.sum(axis=1) >= _OTHERS, leaders(others), -1)
    else:
        truth = leaders(routing.tally(people, pool.height))
    label = leaders(routing.tally(people, pool.height))
    usable = (truth >= 0) & spoke
    if setting.ties == "drop":
        usable &= truth != CLASSES.index("tie")
    places = np.flatnonzero(usable)
    if len(places) < FEWEST:
        raise PrefdataError(
            f"only {len(places)} pairs have a clear label by people and a vote by the AI, and {FEWEST} are needed; "
            "say who is who with --ai and --people (prefdata status lists who judged)."
        )
    every = pl.concat([machines, people.select(machines.columns)])
    return _World(
        rows=pool[places].drop("voices", *(c for c in pool.columns if c == "n" or c.startswith("n_"))),
        machine_voices=_lists(machines, pool.height)[places],
        all_voices=_lists(every, pool.height)[places],
        machines=routing.tally(machines, pool.height)[places],
        people=routing.tally(people, pool.height)[places],
        ai_right=(ai == truth)[places],
        human_right=(label == truth)[places],
        places=places,
    )


def _chosen(people: Sequence[str]) -> pl.Expr:
    """Voices of the people that are asked for."""
    within, without = [who for who in people if not who.startswith("-")], [who[1:] for who in people if who.startswith("-")]
    chosen = routing.named(within) if within else routing.people()
    return chosen & ~routing.named(without) if without else chosen


def _lists(said: pl.DataFrame, pairs: int) -> pl.Series:
    """Voices as a column of lists, one per pair of the pool."""
    fields = ["annotator_id", "kind", "choice", "strength", "a", "b"]
    grouped = said.sort("place", "annotator_id", "choice").group_by("place").agg(voices=pl.struct(fields))
    every = pl.DataFrame({"place": np.arange(pairs)}).join(grouped, on="place", how="left", maintain_order="left")
    return every["voices"].fill_null([]).cast(routing.VOICES)


def _order(method: Method, world: _World, setting: Setting, seed: int) -> Ints:
    """When each pair is bought: its number in the order of purchase; the number of pairs where it never is."""
    size = len(world.places)
    rank, count = np.full(size, size), 0
    at = {pair: place for place, pair in enumerate(world.rows["pair_id"])}
    by_chance = np.argsort(draws(world.rows["pair_id"], seed), kind="stable")
    for share in [*setting.shares[1:], *np.arange(setting.share + setting.step, setting.bought_until, setting.step), setting.bought_until]:
        target = round(share * size)
        while count < target:
            given = _params(method, setting, target - count)
            asked = method.load()(world.seen(rank < size), **given, **({"seed": seed} if "seed" in method.handed else {}))
            places = [place for place in (at[pair] for pair in asked["pair_id"]) if rank[place] == size][: target - count]
            places = places or [int(place) for place in by_chance if rank[place] == size][: target - count]
            rank[places] = np.arange(count, count + len(places))
            count += len(places)
    return rank


def _params(method: Method, setting: Setting, want: int) -> dict[str, Any]:
    """Defaults, but for who is the AI, how many pairs are wanted, and that no pair is asked for twice."""
    wanted: dict[str, Any] = {
        "most": want,
        "n": want,
        "minutes": float(want),
        "seconds": 60.0,
        "enough": 1,
        "to": "human",
        "ai": list(setting.ai),
    }
    return method.bind({name: value for name, value in wanted.items() if name in method.params})


def picture(found: Replayed) -> str:
    """SVG: the share of right labels, and the lead over random, against the share of pairs that people label."""
    order = [curve for curve in found.curves if curve.router != RANDOM] + [curve for curve in found.curves if curve.router == RANDOM]
    right = [Line(c.router, found.shares, c.accuracy, c.low, c.high, c.router == RANDOM) for c in order]
    lead = [Line(c.router, found.shares, c.lead, c.lead_low, c.lead_high, c.router == RANDOM) for c in order]
    across = "share of pairs that people label"
    panels = [Panel("share of right labels", across, right), Panel("lead over random", across, lead)]
    return draw(panels, f"Routing replayed on {found.pairs:,} pairs, bands are 95 % intervals")
