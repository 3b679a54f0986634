"""What a recipe may say about a model."""

from __future__ import annotations

from typing import Any

import pytest

from prefdata.core.errors import PrefdataError
from prefdata.core.store import Store
from prefdata.models import prices
from prefdata.models.providers import Providers
from prefdata.models.spec import read

OPENAI = {"kind": "openai", "model": "m", "base_url": "http://localhost:1/v1"}
SECRET = "sk-live-0123456789abcdefghij"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "unknown kind of model 'm'"),
        ({"kind": "opnai", "model": "x"}, "Did you mean 'openai'"),
        ({"kind": "openai"}, "needs  model"),
        ({"kind": "transformers"}, "needs  path"),
        ({"kind": "mock"}, "needs  replies"),
        ({**OPENAI, "temprature": 1}, "Did you mean 'temperature'"),
        ({**OPENAI, "temperature": "hot"}, "temperature is 'hot'; allowed: a number"),
        ({**OPENAI, "max_tokens": 0}, "max_tokens is 0"),
        ({**OPENAI, "n": 4}, "Ask once for each draw"),
        ({**OPENAI, "rpm": 0}, "rpm is 0"),
        ({**OPENAI, "timeout": float("inf")}, "timeout is inf"),
        ({**OPENAI, "retries": -1}, "retries is -1"),
        ({**OPENAI, "max_concurrency": 2.5}, "max_concurrency is 2.5"),
        ({**OPENAI, "mode": "later"}, "mode is 'later'"),
        ({**OPENAI, "base_url": "localhost:8000"}, "base_url is 'localhost:8000'"),
        ({**OPENAI, "price": 3}, "price is 3"),
        ({**OPENAI, "price": {"input": 1}}, "price.output is None"),
        ({**OPENAI, "price": {"inputs": 1}}, "Did you mean 'input'"),
        ({**OPENAI, "extra": "x"}, "extra is 'x'"),
        ({"kind": "transformers", "path": "x", "dtype": "int3"}, "dtype is 'int3'"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(given: dict[str, Any], words: str) -> None:
    with pytest.raises(PrefdataError) as caught:
        read("m", given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"api_key": SECRET},
        {"key": "x"},
        {"headers": {"x": "y"}},
        {"api_key_env": SECRET},
        {"api_key_env": "hf_abcdefghijklmnopqrstuv"},
        {"api_key_env": "0123456789abcdef0123456789abcdef"},
        {"extra": {"api_key": "x"}},
        {"extra": {"deep": {"er": SECRET}}},
        {"base_url": f"http://me:{SECRET}@host/v1"},
        {"base_url": "http://host/v1?x=1"},
        {"stop": SECRET},
    ],
)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(given: dict[str, Any]) -> None:
    with pytest.raises(PrefdataError, match="environment variable") as caught:
        read("m", {**OPENAI, **given})
    for value in given.values():
        assert not isinstance(value, str) or value.startswith("http") or value not in str(caught.value) or value == "x"
    assert SECRET not in str(caught.value)


def test_the_key_of_openai_goes_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-value")
    assert read("m", {"kind": "openai", "model": "gpt-4o"}).key() == "secret-value"
    assert read("m", OPENAI).key() is None
    assert read("m", {**OPENAI, "api_key_env": "OPENAI_API_KEY"}).key() == "secret-value"


def test_a_missing_key_is_said_at_the_start(store: Store) -> None:
    with pytest.raises(PrefdataError, match="export OPENAI_API_KEY="):
        Providers({"m": {"kind": "openai", "model": "gpt-4o"}}, store).check("m", "ask")


def test_prices_come_from_the_recipe_then_the_table_and_else_are_unknown(store: Store) -> None:
    table = {"kind": "openai", "model": "gpt-4o-mini"}
    providers = Providers(
        {
            "table": table,
            "own": {**table, "price": {"input": 1, "output": 2}},
            "elsewhere": {**OPENAI, "model": "gpt-4o-mini"},
            "mock": {"kind": "mock", "replies": "x"},
        },
        store,
    )
    # one million tokens each way: 0.15 + 0.60 by the table, 1 + 2 by the recipe
    assert providers.estimate("table", 1_000_000, 1_000_000) == pytest.approx(0.75)
    assert providers.estimate("own", 1_000_000, 1_000_000) == pytest.approx(3.0)
    assert providers.estimate("elsewhere", 1, 1) is None
    assert providers.estimate("mock", 1_000, 1_000) == 0


def test_the_table_is_well_formed() -> None:
    table = prices._table()
    assert table
    assert all(0 < low <= high for models in table.values() for low, high in models.values())


def test_a_budget_without_a_price_is_refused_at_the_start(store: Store) -> None:
    with pytest.raises(PrefdataError, match=r"price of model 'm' .* is not known, so a budget cannot be kept"):
        Providers({"m": OPENAI}, store, budget=1).check("m", "ask")
    Providers({"m": OPENAI}, store).check("m", "ask")
    Providers({"m": {**OPENAI, "price": {"input": 0, "output": 0}}}, store, budget=1).check("m", "ask")


def test_unknown_names_and_uses(store: Store) -> None:
    providers = Providers({"writer": OPENAI}, store)
    with pytest.raises(PrefdataError, match="Did you mean 'writer'"):
        providers.check("writr", "ask")
    with pytest.raises(PrefdataError, match="kinds that can: transformers"):
        providers.check("writer", "policy")


def test_identity_holds_what_changes_answers_and_nothing_else(store: Store) -> None:
    runtime = {
        "max_concurrency": 3,
        "rpm": 5,
        "tpm": 100,
        "timeout": 9,
        "retries": 1,
        "api_key_env": "SOME_KEY",
        "price": {"input": 1, "output": 1},
    }
    specs = {
        "a": OPENAI,
        "b": {**OPENAI, **runtime, "base_url": "http://other:2/v1"},
        "c": {**OPENAI, "temperature": 0.5},
        "d": {**OPENAI, "revision": "v2"},
    }
    providers = Providers(specs, store)
    assert providers.identity("a") == {"kind": "openai", "model": "m", "sampling": {}} == providers.identity("b")
    assert providers.identity("c")["sampling"] == {"temperature": 0.5}
    assert providers.identity("d")["revision"] == "v2"


def test_a_changed_mock_script_is_another_model(store: Store) -> None:
    providers = Providers({n: {"kind": "mock", "replies": r} for n, r in (("a", ["x"]), ("b", ["x"]), ("c", ["y"]))}, store)
    assert providers.identity("a") == providers.identity("b") != providers.identity("c")
