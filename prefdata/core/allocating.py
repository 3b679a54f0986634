"""The best set under two budgets: which pairs go to people, which to an AI, which stay as they are.

A multiple-choice knapsack with two constraints. Its Lagrange dual is solved for the price of a dollar (by bisection) and of
a minute (by sorting); what the prices leave of the budgets is filled by gain per cost. The dual's value bounds what any selection
could reach, so that how far this one is from the best is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefdata.core.stats import Ints, Reals

STAY, LLM, HUMAN = 0, 1, 2
_STEPS = 30
_SLACK = 1e-9
"""Budgets are kept to this share of them: 10 labels of 0.1 dollars cost no more than 1 dollar."""


@dataclass(frozen=True)
class Allocation:
    """Who labels which pair.

    Attributes:
        choice: STAY, LLM or HUMAN per pair.
        value: the sum of the chosen gains.
        bound: no selection within the budgets gains more than this.
    """

    choice: Ints
    value: float
    bound: float


@dataclass(frozen=True)
class _Pool:
    """Gains and costs per pair, and the two budgets."""

    human: Reals
    llm: Reals
    minutes: Reals
    usd: Reals
    most_minutes: float
    most_usd: float

    def ahead(self, dollar: float) -> Reals:
        """By how much a person beats what the pair would else do, when a dollar costs so many labels."""
        made: Reals = self.human - np.maximum(self.llm - dollar * self.usd, 0)
        return made

    def at(self, minute: float, dollar: float) -> Ints:
        """What each pair does on its own when a minute and a dollar cost so many labels."""
        to_human = self.ahead(dollar) / self.minutes > minute
        return np.where(to_human, HUMAN, np.where(self.llm - dollar * self.usd > 0, LLM, STAY))

    def spent(self, choice: Ints) -> tuple[float, float]:
        return float(self.minutes[choice == HUMAN].sum()), float(self.usd[choice == LLM].sum())

    def value(self, choice: Ints) -> float:
        return float(self.human[choice == HUMAN].sum() + self.llm[choice == LLM].sum())

    def dual(self, minute: float, dollar: float) -> float:
        net = np.maximum(np.maximum(self.human - minute * self.minutes, self.llm - dollar * self.usd), 0)
        return float(net.sum()) + minute * self.most_minutes + dollar * self.most_usd


def allocate(human: Reals, llm: Reals, minutes: Reals, usd: Reals, most_minutes: float, most_usd: float) -> Allocation:
    """Choose per pair; each pair goes to one side at most.

    Args:
        human, llm: expected gain of a label by a person, by an AI; at most 0 where it is of no use.
        minutes, usd: what each label costs, above 0 for minutes, from 0 for dollars.
        most_minutes, most_usd: the budgets.
    """
    pool = _Pool(human, llm, minutes, usd, most_minutes * (1 + _SLACK), most_usd * (1 + _SLACK))
    minute, dollar = _prices(pool)
    starts = [pool.at(minute, dollar), np.full(len(human), STAY)]
    for gain, cost, most, who in ((human, minutes, pool.most_minutes, HUMAN), (llm, usd, pool.most_usd, LLM)):
        alone = np.where(cost <= most, gain, 0.0)
        if (alone > 0).any():  # one dear pair may be worth more than all the cheap ones
            starts.append(np.where(np.arange(len(gain)) == alone.argmax(), who, STAY))
    best = max((_filled(pool, start) for start in starts), key=pool.value)
    bound = min(pool.dual(minute, dollar), pool.dual(*_cheaper(minute, dollar)))
    return Allocation(best, pool.value(best), max(bound, pool.value(best)))


def _prices(pool: _Pool) -> tuple[float, float]:
    """Prices of a minute and a dollar at which what the pairs would take fits both budgets, as low as may be."""
    low, high = 0.0, _highest(pool.llm, pool.usd)
    if pool.spent(pool.at(_minute(pool, 0.0), 0.0))[1] <= pool.most_usd:
        high = 0.0
    for _ in range(_STEPS if high else 0):
        middle = (low + high) / 2
        fits = pool.spent(pool.at(_minute(pool, middle), middle))[1] <= pool.most_usd
        low, high = (low, middle) if fits else (middle, high)
    return _minute(pool, high), high


def _minute(pool: _Pool, dollar: float) -> float:
    """The lowest price of a minute at which people are not asked for more than they have."""
    worth = pool.ahead(dollar) / pool.minutes
    useful = np.flatnonzero(worth > 0)
    order = useful[np.argsort(-worth[useful], kind="stable")]
    fitting = int(np.searchsorted(np.cumsum(pool.minutes[order]), pool.most_minutes, side="right"))
    return float(worth[order[fitting]]) if fitting < len(order) else 0.0


def _highest(gain: Reals, cost: Reals) -> float:
    """A price at which nothing is worth its cost."""
    worth = gain / np.maximum(cost, 1e-12)
    return float(max(worth.max(initial=0.0), 0.0)) * 1.01 + 1e-9


def _cheaper(minute: float, dollar: float) -> tuple[float, float]:
    """The prices just on the other side of where the bisection ended; the dual is lower there as often as not."""
    return minute * (1 - 1e-6), dollar * (1 - 1e-6)


def _filled(pool: _Pool, choice: Ints) -> Ints:
    """Spend what is left on what gains most per cost, as long as it fits; then let people take over from the AI where that pays."""
    choice = choice.copy()
    minutes, usd = pool.spent(choice)
    taken = _greedy(np.where(choice == STAY, pool.human, 0), pool.minutes, pool.most_minutes - minutes)
    choice[taken] = HUMAN
    taken = _greedy(np.where(choice == STAY, pool.llm, 0), pool.usd, pool.most_usd - usd)
    choice[taken] = LLM
    minutes, _ = pool.spent(choice)
    over = np.where(choice == LLM, pool.human - pool.llm, 0)
    choice[_greedy(over, pool.minutes, pool.most_minutes - minutes)] = HUMAN
    return choice


def _greedy(gain: Reals, cost: Reals, left: float) -> Ints:
    """Places in the order of gain per cost, equals in their own order, each taken where it still fits."""
    useful = np.flatnonzero(gain > 0)
    order = useful[np.argsort(-gain[useful] / np.maximum(cost[useful], 1e-12), kind="stable")]
    running = np.cumsum(cost[order])
    first = int(np.searchsorted(running, left, side="right"))
    taken = list(order[:first])
    left -= float(running[first - 1]) if first else 0.0
    for place in order[first:][cost[order[first:]] <= left]:
        if cost[place] <= left:
            taken.append(place)
            left -= float(cost[place])
    return np.array(taken, dtype=np.int64)
