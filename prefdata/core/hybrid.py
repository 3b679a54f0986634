"""Hybrid routing: estimated gains and two budgets in, queue rows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefdata.core import gains, routing
from prefdata.core.allocating import HUMAN, LLM, STAY, allocate
from prefdata.core.errors import BadValue
from prefdata.core.gains import Estimate
from prefdata.core.labels import CLASSES
from prefdata.core.routing import To
from prefdata.core.stats import Ints, Reals, draws
from prefdata.core.traits import Bits

FEWEST = 10
_SPLIT = "the AI's votes are split"
_SENT: tuple[tuple[int, To], ...] = ((HUMAN, "human"), (LLM, "llm"))


@dataclass(frozen=True)
class Budget:
    """What there is to spend, and what a label costs.

    Attributes:
        minutes, usd: of people's time, and dollars for AI labels.
        seconds: of a person's time per pair, whatever its length.
        seconds_per_1000_chars: and per 1000 characters of prompt and responses.
        usd_each: dollars per AI label.
    """

    minutes: float
    usd: float = 0.0
    seconds: float = 60.0
    seconds_per_1000_chars: float = 0.0
    usd_each: float = 0.0

    def __post_init__(self) -> None:
        for name in ("minutes", "usd", "seconds", "seconds_per_1000_chars", "usd_each"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise BadValue(f"acquire/hybrid_route: {name}", value, "a number from 0")
        if not self.seconds and not self.seconds_per_1000_chars:
            raise BadValue("acquire/hybrid_route: seconds", self.seconds, "above 0", "A person's label takes time.")
        if self.usd and not self.usd_each:
            raise BadValue("acquire/hybrid_route: usd_each", self.usd_each, "above 0", "Say what one AI label costs in dollars.")

    def minutes_of(self, rows: pl.DataFrame) -> Reals:
        """A person's minutes for each pair; at least a thousandth of a second."""
        chars = rows.select(pl.sum_horizontal(pl.col("prompt", "a_text", "b_text").str.len_chars().fill_null(0))).to_series()
        taken = self.seconds + self.seconds_per_1000_chars * chars.to_numpy().astype(np.float64) / 1000
        made: Reals = np.maximum(taken, 1e-3) / 60
        return made


@dataclass(frozen=True)
class Routed:
    """Where the pairs of a pool go.

    Attributes:
        queue: pair_id, send_to, priority, reason; people's rows first.
        choice: STAY, LLM or HUMAN per pair of the pool.
        minutes: a person's minutes for each pair of the pool.
        bound: no set within the budgets has a larger sum of gains; None where pairs were drawn by chance.
        found: the gains.
    """

    queue: pl.DataFrame
    choice: Ints
    minutes: Reals
    bound: float | None
    found: Estimate


def route(
    rows: pl.DataFrame,
    seed: int,
    budget: Budget,
    *,
    ai: Sequence[str],
    features: Sequence[str],
    human_accuracy: float,
    least: int,
    enough: int,
) -> Routed:
    """Choose the set with the largest expected gain; see acquire/hybrid_route for what is expected."""
    if not 0 < human_accuracy <= 1:
        raise BadValue("acquire/hybrid_route: human_accuracy", human_accuracy, "a chance above 0 and at most 1")
    if least < FEWEST:
        raise BadValue("acquire/hybrid_route: least", least, f"{FEWEST} or more")
    found = gains.estimate(rows, seed, ai=ai, features=features, human_accuracy=human_accuracy, least=least)
    minutes = budget.minutes_of(rows)
    is_open = rows["pair_id"].is_in(routing.still_open(rows, "human", enough)["pair_id"].implode()).to_numpy()
    no_label = ~found.spoke & (found.truth < 0)
    if found.judged is None:
        drawn = draws(rows["pair_id"], seed)
        choice, bound = _unlearned(found, budget, minutes, drawn, is_open, no_label, least), None
        split = found.spoke & (found.ai < 0)
        few = f"too few pairs with labels by people and by the AI to learn from ({len(found.both)} of {least}): drawn at random"
        priority = np.where(split, human_accuracy, 1 - drawn)
        reason = [_SPLIT if one else few for one in split]
    else:
        to_human, to_llm = np.where(is_open, found.by_human, 0.0), np.where(no_label & (budget.usd > 0), found.by_llm, 0.0)
        made = allocate(to_human, to_llm, minutes, np.full(rows.height, budget.usd_each), budget.minutes, budget.usd)
        choice, bound = made.choice, made.bound
        priority, reason = np.where(choice == LLM, found.by_llm, found.by_human), _reasons(found, choice)
    parts = []
    for side, to in _SENT:
        places = np.flatnonzero(choice == side)
        parts.append(routing.queue(rows[places], priority[places], [reason[place] for place in places], to))
    return Routed(pl.concat(parts), choice, minutes, bound, found)


def _unlearned(found: Estimate, budget: Budget, minutes: Reals, drawn: Reals, is_open: Bits, no_label: Bits, least: int) -> Ints:
    """As many pairs as the budgets pay for, before anything is learned.

    People get pairs with an AI label until there are enough to learn from, then those on which the AI's votes are split (they
    gain for sure), then others, those without an AI label last; each kind in random order. The AI gets what is left of these.
    """
    order = np.argsort(drawn, kind="stable")
    decided = (found.ai >= 0) & is_open
    to_learn = order[decided[order]][: max(0, least - len(found.both))]
    turn = np.select([found.spoke & (found.ai < 0), decided], [1, 2], 3)
    turn[to_learn] = 0
    people = order[np.argsort(turn[order], kind="stable")]
    choice = np.full(len(drawn), STAY)
    for side, wanted, cost, most in (
        (HUMAN, people[is_open[people]], minutes, budget.minutes),
        (LLM, order[no_label[order]], np.full(len(drawn), budget.usd_each), budget.usd),
    ):
        places = wanted[choice[wanted] == STAY]
        fitting = int(np.searchsorted(np.cumsum(cost[places]), most * (1 + 1e-9), side="right")) if most else 0
        choice[places[:fitting]] = side
    return choice


def _reasons(found: Estimate, choice: Ints) -> list[str]:
    """One sentence per pair that goes anywhere."""
    said = [""] * len(choice)
    for place in np.flatnonzero(choice == LLM):
        said[place] = f"no AI label yet; {found.by_llm[place]:.0%} that one would be right"
    places = np.flatnonzero(choice == HUMAN)
    for place, why in zip(places, gains.reasons(found, places), strict=True):
        if not found.spoke[place]:
            said[place] = "no AI label yet"
        elif found.ai[place] < 0:
            said[place] = _SPLIT
        else:
            chance = f"{found.wrong[place]:.0%} that the AI's label ({CLASSES[found.ai[place]]}) is wrong"
            said[place] = f"{chance}: {why}" if why else chance
    return said
