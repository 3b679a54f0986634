"""Every file of the shelves `losses` and `heads`: golden values, a plain twin, a numeric gradient, refused values."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core.catalogue import shelf_methods
from prefdata.core.errors import PrefdataError
from prefdata.train.inputs import LogProbs, Rewards
from prefdata.train.objective import resolve

GOLDEN = Path(__file__).parent.parent / "golden"
LOSSES = list(shelf_methods("losses"))
HEADS = list(shelf_methods("heads"))


def log_probs(lp: dict[str, float]) -> LogProbs:
    return LogProbs(**{name: torch.tensor([value], dtype=torch.float64) for name, value in lp.items()})


def cases(shelf: str, name: str) -> list[dict[str, Any]]:
    path = GOLDEN / shelf / f"{name}.json"
    assert path.exists(), f"{shelf}/{name} has no golden file {path}"
    return json.loads(path.read_text())["cases"]


@pytest.mark.parametrize("name", LOSSES)
def test_golden_loss(name: str) -> None:
    method = shelf_methods("losses")[name]
    for case in cases("losses", name):
        got = method.load()(log_probs(case["lp"]), **method.bind(case["params"]))
        assert got.shape == (1,)
        assert got.item() == pytest.approx(case["want"], abs=6e-7, rel=2e-6), case["how"]


@pytest.mark.parametrize("name", HEADS)
def test_golden_head(name: str) -> None:
    method = shelf_methods("heads")[name]
    for case in cases("heads", name):
        rewards = Rewards(**{k: torch.tensor([v], dtype=torch.float64) for k, v in case["lp"].items()})
        assert method.load()(rewards, **method.bind(case["params"])).item() == pytest.approx(case["want"], abs=6e-7), case["how"]


def test_no_golden_file_without_a_method() -> None:
    assert {p.stem for p in (GOLDEN / "losses").glob("*.json")} == set(LOSSES)
    assert {p.stem for p in (GOLDEN / "heads").glob("*.json")} == set(HEADS)


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def twin_orpo(w: float, y: float, n: int, k: int) -> float:
    def odds(mean: float) -> float:
        return mean - math.log(1 - math.exp(mean))

    return -w / n + 0.1 * softplus(-(odds(w / n) - odds(y / k)))


TWINS: dict[str, Callable[..., float]] = {
    "dpo": lambda w, y, rw, rl, n, k, p: softplus(-0.1 * ((w - rw) - (y - rl))),
    "ipo": lambda w, y, rw, rl, n, k, p: ((w - rw) / n - (y - rl) / k - 5) ** 2,
    "hinge": lambda w, y, rw, rl, n, k, p: max(0.0, 1 - 0.1 * (w - rw - y + rl)),
    "robust": lambda w, y, rw, rl, n, k, p: (0.9 * softplus(-0.1 * (w - rw - y + rl)) - 0.1 * softplus(0.1 * (w - rw - y + rl))) / 0.8,
    "ln_dpo": lambda w, y, rw, rl, n, k, p: softplus(-5 * ((w - rw) / n - (y - rl) / k)),
    "simpo": lambda w, y, rw, rl, n, k, p: softplus(-(2 * (w / n - y / k) - 1)),
    "cpo": lambda w, y, rw, rl, n, k, p: softplus(-0.1 * (w - y)) - w / n,
    "orpo": lambda w, y, rw, rl, n, k, p: twin_orpo(w, y, n, k),
    "apo_zero": lambda w, y, rw, rl, n, k, p: 1 - sigmoid(0.1 * (w - rw)) + sigmoid(0.1 * (y - rl)),
    "apo_down": lambda w, y, rw, rl, n, k, p: sigmoid(0.1 * (w - rw)) + 1 - sigmoid(0.1 * (w - rw - y + rl)),
    "nca": lambda w, y, rw, rl, n, k, p: softplus(-0.1 * (w - rw)) + softplus(0.1 * (w - rw)) / 2 + softplus(0.1 * (y - rl)) / 2,
    "sppo": lambda w, y, rw, rl, n, k, p: ((w - rw - (p - 0.5) * 1000) ** 2 + (y - rl - (0.5 - p) * 1000) ** 2) / 2,
    "soft": lambda w, y, rw, rl, n, k, p: (
        p * softplus(-0.1 * (w - rw - y + rl)) + (1 - p) * softplus(0.1 * (w - rw - y + rl))
    ),
    "todo": lambda w, y, rw, rl, n, k, p: softplus(-(0.01 * (w - rw - y + rl) - 0.5)),
    "dpop": lambda w, y, rw, rl, n, k, p: softplus(-0.3 * (w - rw - y + rl - 50 * max(0.0, rw - w))),
}  # fmt: skip

nats = st.floats(-60, -0.5)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=30, deadline=None)
@given(nats, nats, nats, nats, st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_twin(name: str, w: float, y: float, rw: float, rl: float, n: int, k: int, p: float) -> None:
    """The loss with its defaults against the formula in plain numbers."""
    lp = log_probs({"chosen": w, "rejected": y, "ref_chosen": rw, "ref_rejected": rl, "n_chosen": n, "n_rejected": k, "p": p})
    got = resolve(name, {}).losses(lp).item()
    assert got == pytest.approx(TWINS[name](w, y, rw, rl, n, k, p), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name: str) -> None:
    objective = resolve(name, {})
    generator = torch.Generator().manual_seed(3)
    chosen, rejected = (-20 * torch.rand(2, 5, generator=generator, dtype=torch.float64) - 1).requires_grad_().unbind()
    fixed = -20 * torch.rand(2, 5, generator=generator, dtype=torch.float64) - 1
    counts = torch.tensor([3.0, 5, 8, 2, 6], dtype=torch.float64)
    p = torch.rand(5, generator=generator, dtype=torch.float64)

    def loss(w: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return objective.losses(LogProbs(w, y, counts, counts + 1, fixed[0], fixed[1], p=p))

    assert torch.autograd.gradcheck(loss, (chosen, rejected))


@pytest.mark.parametrize("labels", [{}, {"margin": 0.3}, {"p": 0.4}])
def test_head_gradient(labels: dict[str, float]) -> None:
    objective = resolve("reward", {"centring": 0.05})
    chosen, rejected = torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_().unbind()
    given_labels = {k: torch.full((5,), v, dtype=torch.float64) for k, v in labels.items()}
    assert torch.autograd.gradcheck(lambda w, r: objective.losses(Rewards(w, r, **given_labels)), (chosen, rejected))


@pytest.mark.parametrize("name", LOSSES)
def test_finite_where_extreme(name: str) -> None:
    """Confident models and long responses must not overflow the loss or its gradient in float32."""
    chosen = torch.tensor([-1e-7, -5000.0, -3.0], requires_grad=True)
    rejected = torch.tensor([-4000.0, -1e-7, -3.0], requires_grad=True)
    n = torch.tensor([3, 900, 4])
    ref = torch.tensor([-2000.0, -2000.0, -3.0])
    loss = resolve(name, {}).losses(LogProbs(chosen, rejected, n, n, ref, ref, p=torch.ones(3)))
    loss.sum().backward()
    for value in (loss, chosen.grad, rejected.grad):
        assert value is not None
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("name", [*LOSSES, "reward"])
def test_strengths_are_checked(name: str) -> None:
    """Every number among the parameters refuses a value at which the loss means nothing, in one sentence."""
    shelf, method = ("heads", "bradley_terry") if name == "reward" else ("losses", name)
    for param in shelf_methods(shelf)[method].params.values():
        if param.annotation == "float":
            with pytest.raises(PrefdataError, match=param.name):
                resolve(name, {param.name: -1.0})


def test_names_are_offered() -> None:
    with pytest.raises(PrefdataError, match="Did you mean 'simpo'"):
        resolve("smipo", {})
    with pytest.raises(PrefdataError, match="Did you mean 'label_smoothing'"):
        resolve("dpo", {"label_smooting": 0.1})
    with pytest.raises(PrefdataError, match="allowed: float"):
        resolve("dpo", {"beta": "high"})


@pytest.mark.parametrize("name", LOSSES)
def test_header_says_what_the_loss_reads(name: str) -> None:
    """A loss that names the reference cannot do without it; one that does not is given none."""
    objective = resolve(name, {})
    one = torch.ones(2)
    without = LogProbs(-one, -2 * one, one, one, p=one)
    if objective.reference:
        with pytest.raises(PrefdataError, match="no reference log-probs"):
            objective.losses(without)
    else:
        assert objective.losses(without).shape == (2,)


@pytest.mark.parametrize("name", LOSSES)
def test_docstring_says_sum_or_mean_and_shape(name: str) -> None:
    doc = inspect.getdoc(shelf_methods("losses")[name].load()) or ""
    assert "(B,)" in doc
    assert "sum" in doc.lower()
    assert shelf_methods("losses")[name].header["paper"]
