"""Judge: all responses of a prompt ranked by merge sort over pair-wise comparisons (PairS)."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefdata.core.errors import BadValue
from prefdata.core.judging import ORDERS, Comparison, Order, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Choice, Group, Judged, Pair, Score, Verdict
from prefdata.core.templates import load

Chance = Callable[[int, int], Awaitable[float]]
"""Probability that the first response is better than the second."""
_TINY = 1e-9
"""Added to probabilities before their logarithm, as in the reference code."""
_VALUE = {"a": 1.0, "b": 0.0, "tie": 0.5}
_LETTER_TOKENS = 8


@dataclass(frozen=True)
class Compared:
    """One comparison: probability that a is better, what each order said, replies."""

    p: float
    orders: Mapping[Order, float]
    raw: Sequence[str] = ()

    @property
    def choice(self) -> Choice:
        return _choice(self.p)


@dataclass
class Sorted:
    """A ranking from worst to best, and the mean log-probability of the decisions in its last merge."""

    items: list[int]
    logp: float | None = None


@method(
    version=1,
    subject="prompt",
    paper="PairS, arXiv:2403.16950",
    prompt_file=("prompts/pairwise.txt", "prompts/common.txt"),
    calls="ceil(responses * log2(max(responses, 1))) * (n if probability == 'draws' else 2 if both_orders else 1)",
)
async def sort_pairs(
    group: Group,
    ask: Ask,
    *,
    gives: Literal["scores", "pairs"] = "scores",
    search: Literal["beam", "greedy"] = "beam",
    beam: int = 2000,
    gap: float = 0.1,
    probability: Literal["verdict", "logprobs", "draws"] = "verdict",
    both_orders: bool = True,
    n: int = 4,
    reasons: bool = True,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> list[Judged]:
    """All responses of a prompt ranked by merge sort, comparing only the pairs that the sort asks about (PairS).

    Greedy: at most n log2 n comparisons for n responses. Beam: where the probability is within `gap` of 1/2, both ways are
    followed, and the way whose decisions have the highest mean log-probability wins; with few close calls it asks little more.
    The score is the share of the other responses ranked below: 1 for the best, 0 for the worst. Rank, comparisons, calls
    and, for the beam, path_logp of the last merge stand in scores; raw holds the comparisons that the response was part of.

    Args:
        gives: a score for each response, or a verdict on each pair that was compared, with strength 2p - 1.
        search: beam, or greedy, which decides every comparison at once.
        beam: ways that are kept.
        gap: distance from 1/2 up to which a comparison counts as open; 0.5 follows both ways always.
        probability: where P(a better) comes from: verdict (1, 1/2 or 0, mean over the orders), logprobs (of the letters A
            and B in a one-letter reply; the server has to give log-probabilities), or draws (mean over n of them).
        both_orders: compare with either response first and take the mean; draws show them in either order in turn.
        n: draws for a comparison; used for probability: draws, at temperature 0.7 where none is set above 0.
        reasons: let the model reason before a verdict; a one-letter reply has no reasons.
        template: a prompt file of your own with the places {conversation}, {response_a}, {response_b} and {answer}, and, if you
            want our words there, {material}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if beam < 1 or not 0 <= gap <= 0.5 or n < 1:
        raise BadValue("sort_pairs: beam, gap, n", (beam, gap, n), "beam and n from 1, gap from 0 to 0.5")
    if probability == "draws" and temperature is not None:
        temperature = temperature or 0.7
    form = Comparison(
        load(__file__, "prompts/pairwise.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "max_tokens": _LETTER_TOKENS if probability == "logprobs" else max_tokens},
        reasons=reasons,
    )
    asked = _Asked(group, lambda pair: _compare(form, ask, pair, probability, both_orders, n))
    merge = _greedy if search == "greedy" else lambda left, right, chance: _beam(left, right, chance, beam, gap)
    ranked = await _sort(list(range(len(group.responses))), asked.chance, merge)
    return _pairs(group, asked) if gives == "pairs" else _scores(group, ranked, asked)


@dataclass
class _Asked:
    """Every comparison that was made, each once."""

    group: Group
    compare: Callable[[Pair], Awaitable[Compared]]
    made: dict[tuple[int, int], asyncio.Task[Compared]] = field(default_factory=dict)

    async def chance(self, i: int, j: int) -> float:
        """P(i better than j); asked at most once for a pair, whoever waits for it."""
        key = (min(i, j), max(i, j))
        if key not in self.made:
            pair = Pair(self.group.prompt, self.group.responses[key[0]], self.group.responses[key[1]])
            self.made[key] = asyncio.ensure_future(self.compare(pair))
        p = (await self.made[key]).p
        return p if i < j else 1 - p

    @property
    def results(self) -> dict[tuple[int, int], Compared]:
        return {key: self.made[key].result() for key in sorted(self.made)}

    @property
    def calls(self) -> int:
        return sum(len(one.raw) for one in self.results.values())


async def _compare(form: Comparison, ask: Ask, pair: Pair, probability: str, both_orders: bool, n: int) -> Compared:
    if pair.a.text == pair.b.text:
        return Compared(0.5, {})
    if probability == "logprobs":
        letters = await together([form.letter(ask, pair, order) for order in (ORDERS if both_orders else ORDERS[:1])])
        given = [(order, p, raw) for order, (p, raw) in zip(ORDERS, letters, strict=False)]
    else:
        turns: Sequence[Order] = ORDERS if both_orders else ORDERS[:1]
        draws = [(turns[k % len(turns)], k) for k in range(n if probability == "draws" else len(turns))]
        samples = [number if probability == "draws" else 0 for _, number in draws]
        said = await together([form.once(ask, pair, order, sample=sample) for (order, _), sample in zip(draws, samples, strict=True)])
        given = [(order, _VALUE[verdict.choice], verdict.raw or "") for (order, _), verdict in zip(draws, said, strict=True)]
    orders = {order: _mean([p for shown, p, _ in given if shown == order]) for order in ORDERS if any(s == order for s, _, _ in given)}
    return Compared(_mean([p for _, p, _ in given]), orders, [raw for _, _, raw in given])


async def _sort(items: list[int], chance: Chance, merge: Callable[[list[int], list[int], Chance], Awaitable[Sorted]]) -> Sorted:
    """Merge sort, worst first; the halves are sorted at the same time."""
    if len(items) < 2:
        return Sorted(items)
    middle = len(items) // 2
    left, right = await together([_sort(items[:middle], chance, merge), _sort(items[middle:], chance, merge)])
    return await merge(left.items, right.items, chance)


async def _greedy(left: list[int], right: list[int], chance: Chance) -> Sorted:
    """The loser of the two foremost comes next; where neither is better, the left one."""
    out: list[int] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if await chance(left[i], right[j]) > 0.5:
            out.append(right[j])
            j += 1
        else:
            out.append(left[i])
            i += 1
    return Sorted([*out, *left[i:], *right[j:]])


async def _beam(left: list[int], right: list[int], chance: Chance, size: int, gap: float) -> Sorted:
    """The likeliest merge: ways are ranked by the mean log-probability of their decisions, the `size` best are followed."""
    ways: list[tuple[float, tuple[int, ...], int, int]] = [(0.0, (), 0, 0)]
    for step in range(len(left) + len(right)):
        open_ = list(dict.fromkeys((i, j) for _, _, i, j in ways if i < len(left) and j < len(right)))
        if not open_:
            break
        chances = dict(zip(open_, await together([chance(left[i], right[j]) for i, j in open_]), strict=True))
        longer = []
        for score, path, i, j in ways:
            if (i, j) not in chances:
                item = left[i] if i < len(left) else right[j]
                longer.append((score, (*path, item), i + (i < len(left)), j + (i >= len(left))))
                continue
            p = chances[i, j]
            if p <= 0.5 + gap:
                longer.append(((score * step + math.log(1 - p + _TINY)) / (step + 1), (*path, left[i]), i + 1, j))
            if 1 - p <= 0.5 + gap:
                longer.append(((score * step + math.log(p + _TINY)) / (step + 1), (*path, right[j]), i, j + 1))
        ways = sorted(longer, key=lambda way: -way[0])[:size]
    score, path, i, j = ways[0]
    return Sorted([*path, *left[i:], *right[j:]], score)


def _scores(group: Group, ranked: Sorted, asked: _Asked) -> list[Judged]:
    count, results, calls = len(group.responses), asked.results, asked.calls
    out = []
    for at in range(count):
        below = ranked.items.index(at)
        scores: dict[str, Any] = {"rank": count - below, "of": count, "comparisons": len(results), "calls": calls}
        if ranked.logp is not None:
            scores["path_logp"] = ranked.logp
        mine = [
            {"with": group.responses[i + j - at].id, "p": one.p if i == at else 1 - one.p, "replies": list(one.raw)}
            for (i, j), one in results.items()
            if at in (i, j)
        ]
        said = f"rank {count - below} of {count} by {len(results)} comparisons in {calls} calls"
        out.append(Judged(group.responses[at], Score(below / (count - 1), scores, said, json.dumps(mine, ensure_ascii=False))))
    return out


def _pairs(group: Group, asked: _Asked) -> list[Judged]:
    count, calls = len(asked.results), asked.calls
    out = []
    for (i, j), one in asked.results.items():
        orders = {order: _choice(p) for order, p in one.orders.items()}
        scores = {"p_a": one.p, "orders": orders, "flipped": set(orders.values()) == {"a", "b"}, "comparisons": count, "calls": calls}
        raw = json.dumps(list(one.raw), ensure_ascii=False) if one.raw else None
        said = f"one of {count} comparisons in {calls} calls"
        given = Verdict(one.choice, 2 * one.p - 1, scores, said, "both" if len(orders) == 2 else "ab", raw)
        out.append(Judged((group.responses[i], group.responses[j]), given))
    return out


def _choice(p: float) -> Choice:
    return "a" if p > 0.5 else "b" if p < 0.5 else "tie"


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
