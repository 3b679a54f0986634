"""Calls per row by the header's expression, and what a plan says."""

from __future__ import annotations

from typing import Any

import pytest

from prefdata.core import catalogue
from prefdata.core.errors import PrefdataError
from prefdata.core.planning import calls_per_row
from prefdata.core.store import Store
from tests.core.plugin_tools import Plug, mock, plug, respond, run, store

__all__ = ["plug", "store"]


def counted(plug: Plug, calls: str, params: dict[str, Any], asks: int = 1, left: str = "asks: Mapping[str, Ask]") -> float:
    """Calls per row of a method with these calls, parameters and number of models."""
    names = ", ".join(f"{name}=None" for name in params)
    plug(
        "judges",
        "m",
        f'@method(version=1, subject="pair", calls={calls!r})\ndef m(pair: Pair, {left}, *, {names or "x=None"}):\n    """M."""',
    )
    method = catalogue.find("judges", "m")
    return calls_per_row(method, params, {next(iter(method.models)): tuple(f"m{i}" for i in range(asks))}, 5)


@pytest.mark.parametrize(
    ("calls", "params", "want"),
    [
        ("3", {}, 3),
        ("2 if both_orders else 1", {"both_orders": True}, 2),
        ("2 if both_orders else 1", {"both_orders": False}, 1),
        ("2 * rounds + (1 if last and rounds > 2 else 0)", {"rounds": 3, "last": True}, 7),
        ("2 * rounds + (1 if last and rounds > 2 else 0)", {"rounds": 2, "last": True}, 4),
        ("len(levels) * (n - 1) // 2", {"levels": ["a", "b", "c"], "n": 4}, 4),
        ("5 if kind in ('x', 'y') else 4 if kind != 'z' else 3", {"kind": "y"}, 5),
        ("5 if kind in ('x', 'y') else 4 if kind != 'z' else 3", {"kind": "z"}, 3),
        ("1 if not extra or n == 2 else 9", {"extra": None, "n": 7}, 1),
        ("1 if extra is None else 2", {"extra": "x"}, 2),
        ("max(1, min(n, 3)) + -1 + 7 % 4", {"n": 8}, 5),
        ("ceil(responses * log2(responses))", {}, 12),
        ("", {}, 1),
        ("", {"n": 4}, 4),
        ("", {"n": None}, 1),
    ],
)
def test_expressions(plug: Plug, calls: str, params: dict[str, Any], want: float) -> None:
    assert counted(plug, calls, params) == want


def test_models_that_come_several_at_a_time_multiply_unless_named(plug: Plug) -> None:
    assert counted(plug, "2", {}, asks=3) == 6
    assert counted(plug, "", {"n": 4}, asks=3) == 12
    assert counted(plug, "2 * len(asks) + 1", {}, asks=3) == 7
    assert counted(plug, "2", {}, left="critic: Ask, other: Ask | None = None") == 2
    assert counted(plug, "2", {}, left="strong: Policy") == 0, "a model that is not asked costs no calls"


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ("2 if both_order else 1", "unknown name 'both_order'.* Did you mean 'both_orders'"),
        ("2 *", "an expression over the parameters"),
        ("__import__('os').getpid()", r"__import__\('os'\)\.getpid\(\)"),
        ("both_orders.real", "names, numbers"),
        ("open('x')", "names, numbers"),
        ("[n for n in (1, 2)]", "names, numbers"),
        ("'three'", "gives a number"),
        ("-1", "from 0"),
        ("1 / 0", "division by zero"),
        ("len(both_orders)", "failed with"),
        ("2 if 0 < both_orders < 3 else 1", "names, numbers"),
    ],
)
def test_bad_expressions_are_refused_before_anything_is_asked(plug: Plug, store: Store, calls: str, words: str) -> None:
    plug(
        "judges",
        "m",
        f'@method(version=1, subject="response", calls={calls!r})\n'
        'def m(response: Response, ask: Ask, *, both_orders: bool = True) -> Score:\n    """M."""\n',
    )
    respond(store, {"p": ["x"]})
    with pytest.raises(PrefdataError, match=words) as caught:
        run(store, {"judge": {"m": {"ask": "a"}}}, models={"a": mock("1")})
    assert "m.py: calls" in str(caught.value)
    assert store.value("SELECT count(*) FROM runs") == 0


def test_a_plan_prices_every_model(plug: Plug, store: Store) -> None:
    plug(
        "judges",
        "jury",
        """
        @method(version=1, subject="response", calls="2 if both_orders else 1")
        async def jury(response: Response, asks: Mapping[str, Ask], *, both_orders: bool = True, max_tokens: int = 100) -> Score:
            '''Asks each twice.'''
        """,
    )
    respond(store, {"p" * 40: ["x" * 80, "x" * 160]})
    cheap, dear = mock("x", price={"input": 1_000_000, "output": 0}), mock("x", price={"input": 0, "output": 3_000_000})
    models = {"cheap": cheap, "dear": dear}
    (step,) = run(store, {"judge": {"jury": {"asks": ["cheap", "dear"]}}}, models=models, plan=True)
    assert step.calls == 2 * 2 * 2
    assert step.cost == pytest.approx(4 * (40 + 120) / 4 + 4 * 100 * 3), "4 calls of 40 tokens at $1, 4 answers of 100 tokens at $3"
    (one,) = run(store, {"judge": {"jury": {"asks": "cheap", "both_orders": False}}}, models=models, plan=True)
    assert (one.calls, one.cost) == (2, pytest.approx(2 * 40))
    unknown = {"kind": "openai", "model": "nobody-knows", "base_url": "http://localhost:1/v1"}
    (unpriced,) = run(store, {"judge": {"jury": {"asks": ["cheap", "odd"]}}}, models={**models, "odd": unknown}, plan=True)
    assert unpriced.calls == 8
    assert "unknown" in unpriced.detail["cost"]
