"""The pace: growth, giving way, limits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from prefdata.models.pace import Pace


async def drive(pace: Pace, calls: int, server: Callable[[int], tuple[float, bool]], callers: int = 400) -> int:
    """Ask a simulated server: given how many calls it has, it tells how long this one takes and whether it is busy."""
    left, flying, most = iter(range(calls)), 0, 0

    async def caller() -> None:
        nonlocal flying, most
        for _ in left:
            again = False
            while True:
                await pace.enter(again=again)
                flying += 1
                most = max(most, flying)
                seconds, busy = server(flying)
                await asyncio.sleep(seconds)
                flying -= 1
                pace.leave(seconds, good=not busy, busy=busy)
                if not busy:
                    break
                again = True
                await asyncio.sleep(0.01)

    await asyncio.gather(*(caller() for _ in range(callers)))
    assert pace.flying == 0
    return most


def test_it_grows_to_the_most_allowed_while_answers_are_good() -> None:
    pace = Pace(300)
    assert pace.limit == 150
    assert asyncio.run(drive(pace, 1500, lambda n: (0.01, False))) == 300
    assert pace.limit == 300


def test_it_starts_modestly_and_never_exceeds_the_most() -> None:
    assert Pace(20).limit == 20
    assert Pace(60).limit == 32
    assert asyncio.run(drive(Pace(7), 200, lambda n: (0.001, False))) == 7


def test_it_gives_way_to_a_server_that_takes_fewer() -> None:
    pace = Pace(200)
    asyncio.run(drive(pace, 3000, lambda n: (0.001, True) if n > 30 else (0.01, False)))
    assert 10 <= pace.limit <= 60


def test_random_failures_do_not_slow_it_down() -> None:
    pace, chance = Pace(200), random.Random(1)
    asyncio.run(drive(pace, 4000, lambda n: (0.002, chance.random() < 0.16)))
    assert pace.limit >= 100


def test_it_does_not_grow_where_answers_only_get_slower() -> None:
    async def run() -> float:
        pace = Pace(400)
        pace.limit = 25.0
        for _ in range(20):
            at_once = int(pace.limit)
            for _ in range(at_once):
                await pace.enter()
            for _ in range(at_once):
                pace.leave(0.2 * max(1.0, at_once / 50), good=True)
        return pace.limit

    # 0.2 s up to 50 at once, 0.4 s at 100: twice as long is borne; 0.8 s at 200 is not
    assert asyncio.run(run()) == 200


def test_all_wait_where_many_are_told_to() -> None:
    async def run() -> float:
        pace, loop = Pace(10), asyncio.get_running_loop()
        for _ in range(10):
            await pace.enter()
        for _ in range(10):
            pace.leave(0.01, busy=True, after=0.3)
        started = loop.time()
        await pace.enter()
        return loop.time() - started

    assert asyncio.run(run()) >= 0.28


def test_the_stricter_limits_of_two_models_at_one_endpoint_hold() -> None:
    pace = Pace(100, rpm=None, tpm=600)
    pace.tighten(20, 60, 1200)
    assert (pace.most, pace.limit) == (20, 20)
    assert pace._calls is not None
    assert pace._tokens is not None
    assert (pace._calls.rate, pace._tokens.rate) == (1, 10)


def test_who_gives_up_waiting_leaves_the_place_to_the_next() -> None:
    async def run() -> None:
        pace = Pace(1)
        await pace.enter()
        first, second = asyncio.create_task(pace.enter()), asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        pace.leave(0.1, good=True)
        await asyncio.wait_for(second, 1)
        assert pace.flying == 1

    asyncio.run(run())


def test_a_place_given_to_somebody_who_leaves_at_that_moment_is_given_back() -> None:
    async def run() -> None:
        pace = Pace(1)
        await pace.enter()
        waiting = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        pace.leave(0.1, good=True)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pace.flying == 0

    asyncio.run(run())
