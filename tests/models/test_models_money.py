"""Budgets: nothing is spent beyond them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from models_server import Answer, completion, serving, user

from prefdata.core.errors import BadValue, Stopped
from prefdata.core.store import Store
from prefdata.models.ledger import Ledger
from prefdata.models.providers import Providers

PAID = {"kind": "mock", "replies": {"text": "ok", "tokens_in": 50, "tokens_out": 50}, "price": {"input": 1000, "output": 2000}}
# 50 tokens at $1,000 and 50 at $2,000 per million: $0.05 + $0.1
EACH = 0.15


async def gather(providers: Providers, count: int, **sampling: Any) -> list[Any]:
    asks = (providers.ask("m")(user(f"q{n}"), **sampling) for n in range(count))
    return await asyncio.gather(*asks, return_exceptions=True)


def test_a_run_stops_before_its_budget_is_exceeded_and_goes_on_with_more(using: Any, store: Store) -> None:
    replies, providers = using({"m": PAID}, lambda p: gather(p, 30, max_tokens=50), budget=2.0)
    bought = [r for r in replies if not isinstance(r, Exception)]
    stops = [r for r in replies if isinstance(r, Exception)]
    assert all(isinstance(stop, Stopped) for stop in stops)
    assert providers.spent == pytest.approx(EACH * len(bought))
    assert providers.spent <= 2.0
    assert len(bought) >= 11, "what a call may cost at most is not far from what it costs"
    assert "budget of $2.00" in str(stops[0])
    assert "higher --budget" in str(stops[0])
    assert "'m'" in str(stops[0])
    replies, providers = using({"m": PAID}, lambda p: gather(p, 30, max_tokens=50), budget=100)
    assert providers.calls == 30 - len(bought)
    assert providers.cached == len(bought)
    assert providers.spent == pytest.approx(EACH * (30 - len(bought)))


def test_a_budget_of_nothing_still_serves_what_is_stored(using: Any) -> None:
    using({"m": PAID}, lambda p: gather(p, 3))
    replies, providers = using({"m": PAID}, lambda p: gather(p, 3), budget=0)
    assert [r.text for r in replies] == ["ok"] * 3
    assert providers.spent == 0


def test_free_models_need_no_budget(using: Any) -> None:
    replies, _ = using({"m": {"kind": "mock", "replies": "x"}}, lambda p: gather(p, 3), budget=0)
    assert [r.text for r in replies] == ["x"] * 3


def test_what_a_failed_attempt_may_have_cost_counts_against_the_budget(using: Any) -> None:
    with serving(lambda n, b: Answer('{"choices": [{"mess')) as seen:
        spec = {"kind": "openai", "model": "m", "base_url": seen.url, "price": {"input": 0, "output": 10_000}, "max_tokens": 100}
        # every cut answer may have cost 100 tokens at $0.01: $1
        replies, providers = using({"m": spec}, lambda p: gather(p, 1), budget=3.5)
    assert isinstance(replies[0], Stopped)
    assert len(seen.bodies) == 3
    assert providers.spent == 0


def test_a_rejected_attempt_costs_nothing(using: Any) -> None:
    with serving(lambda n, b: Answer("", 429) if n < 5 else Answer(completion(tokens_out=100))) as seen:
        spec = {"kind": "openai", "model": "m", "base_url": seen.url, "price": {"input": 0, "output": 10_000}, "max_tokens": 100}
        _, providers = using({"m": spec}, lambda p: gather(p, 1), budget=1.0)
    assert providers.spent == pytest.approx(1.0)


@pytest.mark.parametrize("budget", [-1, float("inf"), float("nan")])
def test_a_senseless_budget_is_refused(store: Store, budget: float) -> None:
    with pytest.raises(BadValue, match="budget is"):
        Providers({}, store, budget=budget)


def test_who_does_not_fit_waits_for_others_to_settle() -> None:
    async def run() -> list[str]:
        ledger, order = Ledger(1.0), []

        async def call(name: str, most: float, cost: float) -> None:
            await ledger.reserve(most, name)
            order.append(name)
            await asyncio.sleep(0.01)
            ledger.settle(most, cost)

        await asyncio.gather(call("a", 0.9, 0.1), call("b", 0.9, 0.1), call("c", 0.8, 0.1))
        assert ledger.spent == pytest.approx(0.3)
        with pytest.raises(Stopped):
            await ledger.reserve(0.71, "d")
        await ledger.reserve(0.7, "d")
        return order

    assert asyncio.run(run()) == ["a", "b", "c"]
