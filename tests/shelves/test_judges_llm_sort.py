"""PairS: the merge sort against an obvious twin that tries every merge, and what it costs."""

from __future__ import annotations

import asyncio
import json
import math
import re
from itertools import combinations
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core.errors import PrefdataError, Unreadable
from prefdata.core.rows import Group, Prompt, Response, Verdict
from prefdata.judges.sort_pairs import sort_pairs
from prefdata.models.protocol import Reply

PROMPT = Prompt(({"role": "user", "content": "q"},))
TINY = 1e-9
Matrix = dict[tuple[int, int], float]


def group(count: int) -> Group:
    return Group(PROMPT, tuple(Response(PROMPT, f"text {n}") for n in range(count)))


class Oracle:
    """A model whose letters have the log-probabilities of a matrix: P[i, j], i < j, that text i is better than text j."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix, self.asked = matrix, list[tuple[int, int]]()

    async def __call__(self, messages: Any, *, sample: int = 0, **sampling: Any) -> Reply:
        assert sampling["logprobs"]
        i, j = (int(n) for n in re.findall(r"\ntext (\d+)\n</response_", messages[-1]["content"]))
        self.asked.append((i, j))
        p = self.matrix[i, j] if i < j else 1 - self.matrix[j, i]
        top = [{"token": "A", "logprob": math.log(p)}, {"token": " B", "logprob": math.log(1 - p)}]
        return Reply("A", logprobs={"content": [{**top[0], "top_logprobs": top}]})


def ranked(count: int, ask: Any, **params: Any) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the texts from worst to best, and the scores of the first one."""
    judged = asyncio.run(sort_pairs(group(count), ask, probability="logprobs", **params))
    by_value = sorted(judged, key=lambda one: one.given.value)
    assert [one.given.value for one in by_value] == pytest.approx([n / (count - 1) for n in range(count)])
    return [int(one.of.text.split()[1]) for one in by_value], dict(by_value[0].given.scores)


def twin(items: list[int], matrix: Matrix, gap: float, asked: set[tuple[int, int]]) -> tuple[list[int], float | None]:
    """Merge sort that lists every allowed merge and takes the one with the best mean log-probability."""
    if len(items) < 2:
        return items, None
    middle = len(items) // 2
    (left, _), (right, _) = twin(items[:middle], matrix, gap, asked), twin(items[middle:], matrix, gap, asked)
    every: list[tuple[float, list[int]]] = []

    def merge(path: list[int], logs: list[float], rest_l: list[int], rest_r: list[int]) -> None:
        if not rest_l or not rest_r:
            every.append((sum(logs) / len(logs), [*path, *rest_l, *rest_r]))
            return
        i, j = rest_l[0], rest_r[0]
        asked.add((min(i, j), max(i, j)))
        p = matrix[i, j] if i < j else 1 - matrix[j, i]
        if p <= 0.5 + gap:
            merge([*path, i], [*logs, math.log(1 - p + TINY)], rest_l[1:], rest_r)
        if 1 - p <= 0.5 + gap:
            merge([*path, j], [*logs, math.log(p + TINY)], rest_l, rest_r[1:])

    merge([], [], left, right)
    best = max(every, key=lambda one: one[0])
    return best[1], best[0]


matrices = st.integers(2, 7).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.floats(0.01, 0.99), min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2, unique=True))
)


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from([0.0, 0.1, 0.3, 0.5]))
def test_the_beam_finds_the_best_merge(drawn: tuple[int, list[float]], gap: float) -> None:
    count, numbers = drawn
    matrix = dict(zip(combinations(range(count), 2), numbers, strict=True))
    wanted: set[tuple[int, int]] = set()
    order, logp = twin(list(range(count)), matrix, gap, wanted)
    ask = Oracle(matrix)
    got, scores = ranked(count, ask, gap=gap, both_orders=False)
    assert scores["path_logp"] == pytest.approx(logp)
    assert set(ask.asked) == wanted
    assert (scores["comparisons"], scores["calls"]) == (len(wanted), len(wanted))
    assert len(ask.asked) == len(wanted)  # nothing is asked twice
    if gap < 0.5:  # with 0.5 a merge and its mirror image may have the same mean
        assert got == order


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(9)), st.integers(2, 9), st.sampled_from(["greedy", "beam"]))
def test_a_consistent_judge_gives_the_true_order(strengths: list[int], count: int, search: Literal["greedy", "beam"]) -> None:
    """One who prefers the larger number by 9 to 1: sorted, with at most n log2 n comparisons."""
    strengths = strengths[:count]
    ask = Oracle({(i, j): 0.9 if strengths[i] > strengths[j] else 0.1 for i, j in combinations(range(count), 2)})
    got, scores = ranked(count, ask, search=search)
    assert got == sorted(range(count), key=strengths.__getitem__)
    assert scores["comparisons"] <= count * math.log2(count)
    assert scores["calls"] == 2 * scores["comparisons"] == len(ask.asked)
    assert scores["rank"] == scores["of"] == count


def test_an_open_decision_is_followed_both_ways() -> None:
    """0 against the sorted (1, 2). P(0 > 1) = 0.45, P(0 > 2) = 0.99, P(1 > 2) = 0.1.

    Greedy says 0 loses to 1 and stops: 0 1 2, after 2 comparisons. The beam also follows 0 > 1, then 0 > 2:
    (ln 0.45 + ln 0.99) / 2 = -0.4043 against ln 0.55 = -0.5978, so 1 2 0, after 3 comparisons.
    """
    matrix = {(0, 1): 0.45, (0, 2): 0.99, (1, 2): 0.1}
    assert ranked(3, Oracle(matrix), search="greedy", both_orders=False)[0] == [0, 1, 2]
    order, scores = ranked(3, Oracle(matrix), both_orders=False)
    assert order == [1, 2, 0]
    assert scores["path_logp"] == pytest.approx((math.log(0.45) + math.log(0.99)) / 2)
    assert scores["comparisons"] == 3
    assert ranked(3, Oracle(matrix), gap=0.04, both_orders=False)[0] == [0, 1, 2]  # 0.45 is no open decision then


def test_position_bias_cancels_in_both_orders() -> None:
    """The first letter gets 0.2 too much: 0.4 + 0.2 and 0.6 + 0.2 for a and b, so P(a) = (0.6 + 1 - 0.8) / 2 = 0.4."""

    async def biased(messages: Any, **sampling: Any) -> Reply:
        p = 0.6 if "\ntext 0\n</response_a" in messages[-1]["content"] else 0.8
        top = [{"token": "A", "logprob": math.log(p)}, {"token": "B", "logprob": math.log(1 - p)}]
        return Reply("A", logprobs={"content": [{**top[0], "top_logprobs": top}]})

    (one,) = asyncio.run(sort_pairs(group(2), biased, probability="logprobs", gives="pairs"))
    assert isinstance(one.given, Verdict)
    assert one.given.choice == "b"
    assert one.given.strength == pytest.approx(-0.2)
    assert one.given.scores["p_a"] == pytest.approx(0.4)
    assert one.given.scores["orders"] == {"ab": "a", "ba": "b"}
    assert one.given.scores["flipped"]


def test_spellings_of_a_letter_are_added_up() -> None:
    """A 0.3 and " A" 0.2 against B 0.5 is even: a tie, and the first stays first."""

    async def ask(messages: Any, **sampling: Any) -> Reply:
        top = [{"token": t, "logprob": math.log(p)} for t, p in ((" B", 0.5), ("A", 0.3), (" A", 0.2))]
        return Reply(" B", logprobs={"content": [{"token": "\n", "logprob": -0.1, "top_logprobs": []}, {**top[0], "top_logprobs": top}]})

    (one,) = asyncio.run(sort_pairs(group(2), ask, probability="logprobs", gives="pairs", both_orders=False))
    assert isinstance(one.given, Verdict)
    assert (one.given.choice, one.given.scores["p_a"]) == ("tie", pytest.approx(0.5))


@pytest.mark.parametrize("logprobs", [None, {"content": []}, {"content": [{"token": "The", "logprob": 0.0, "top_logprobs": []}]}])
def test_a_reply_without_the_letters_is_unreadable(logprobs: Any) -> None:
    async def ask(messages: Any, **sampling: Any) -> Reply:
        return Reply("A", logprobs=logprobs)

    with pytest.raises(Unreadable, match="log-probabilit"):
        asyncio.run(sort_pairs(group(2), ask, probability="logprobs"))


def test_draws_give_shares() -> None:
    """Four draws in either order in turn: 0 shown first wins both times, and of the others one: P = 3/4."""
    said = {("ab", 0): "A", ("ba", 1): "B", ("ab", 2): "A", ("ba", 3): "A"}
    temperatures = set()

    async def ask(messages: Any, *, sample: int = 0, **sampling: Any) -> Reply:
        temperatures.add(sampling["temperature"])
        order = "ab" if "\ntext 0\n</response_a" in messages[-1]["content"] else "ba"
        return Reply(f"[[{said[order, sample]}]]")

    judged = asyncio.run(sort_pairs(group(2), ask, probability="draws", n=4))
    assert {one.of.text: one.given.value for one in judged} == {"text 0": 1.0, "text 1": 0.0}
    assert {one["p"] for one in json.loads(judged[0].given.raw or "")} == {0.75}
    assert judged[0].given.scores["calls"] == 4
    assert temperatures == {0.7}


def test_equal_texts_are_compared_for_nothing() -> None:
    same = Group(PROMPT, (Response(PROMPT, "same"), Response(PROMPT, "same", sample=1)))

    async def never(messages: Any, **sampling: Any) -> Reply:
        raise AssertionError("asked")

    judged = asyncio.run(sort_pairs(same, never))
    assert [one.given.scores["calls"] for one in judged] == [0, 0]


@pytest.mark.parametrize("params", [{"beam": 0}, {"gap": 0.6}, {"gap": -0.1}, {"n": 0}], ids=str)
def test_a_search_that_cannot_be_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(PrefdataError, match="beam and n from 1, gap from 0"):
        asyncio.run(sort_pairs(group(2), Oracle({}), **params))
