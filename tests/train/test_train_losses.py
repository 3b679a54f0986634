"""Every file of the shelves `losses` and `heads`: golden values, a plain twin, a numeric gradient, refused values."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core.catalogue import shelf_methods
from prefdata.core.errors import PrefdataError
from prefdata.train.inputs import LogProbs, Ranked, Rewards, Tokens, Unpaired
from prefdata.train.objective import Given, resolve
from prefdata.train.ties import rao_kupper

GOLDEN = Path(__file__).parent.parent / "golden"
LOSSES = list(shelf_methods("losses"))
HEADS = list(shelf_methods("heads"))
METHODS = [("losses", name) for name in LOSSES] + [("heads", name) for name in HEADS]


def tensor(value: Any) -> torch.Tensor:
    """Doubles with a row in front; null is NaN."""
    if isinstance(value, list):
        return torch.tensor([[math.nan if v is None else v for v in value]], dtype=torch.float64)
    return torch.tensor([value], dtype=torch.float64)


def log_probs(lp: dict[str, float]) -> LogProbs:
    return LogProbs(**{name: tensor(value) for name, value in lp.items()})


def bundle(case: dict[str, Any]) -> tuple[Given, dict[str, Any]]:
    """A golden case as what the method is handed: one row."""
    if "unpaired" in case:
        given: Given = Unpaired(**{name: tensor(value) for name, value in case["unpaired"].items()})
    elif "ranked" in case:
        values = {name: tensor(value) for name, value in case["ranked"].items()}
        given = Ranked(**values, there=torch.ones_like(values["logps"], dtype=torch.bool))
    elif "rewards" in case:
        given = Rewards(**{"rejected": None, **{name: tensor(value) for name, value in case["rewards"].items()}})
    else:
        given = log_probs(case["lp"])
    beside = {name: tensor(case[name]) for name in ("rationale", "draws", "membership", "taste") if name in case}
    beside |= {name: tensor(case[name])[0] for name in ("kl", "shift") if name in case}
    if "tokens" in case:
        beside["tokens"] = Tokens(**_padded(case["tokens"]))
    if "wanted" in case:
        beside["wanted"] = tuple(tensor(side) for side in case["wanted"])
    return given, beside


def _padded(sides: dict[str, list[float]]) -> dict[str, torch.Tensor]:
    wide = max(map(len, sides.values()))
    return {name: tensor([*values, *[0.0] * (wide - len(values))]) for name, values in sides.items()}


def cases(shelf: str, name: str) -> list[dict[str, Any]]:
    path = GOLDEN / shelf / f"{name}.json"
    assert path.exists(), f"{shelf}/{name} has no golden file {path}"
    found: list[dict[str, Any]] = json.loads(path.read_text())["cases"]
    return found


@pytest.mark.parametrize(("shelf", "name"), METHODS)
def test_golden(shelf: str, name: str) -> None:
    for case in cases(shelf, name):
        got = resolve("reward" if name == "bradley_terry" else name, case["params"]).losses(*bundle(case))
        assert got.loss.shape == (1,)
        assert got.loss.item() == pytest.approx(case["want"], abs=6e-7, rel=2e-6), case["how"]
        assert (got.margin is None) == ("margin" not in case), case["how"]
        if got.margin is not None:
            assert got.margin.item() == pytest.approx(case["margin"], abs=1e-9), case["how"]


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


def kl(x: float, y: float) -> float:
    """KL divergence of two coins given as log-odds."""
    p = sigmoid(x)
    return p * (softplus(-y) - softplus(-x)) + (1 - p) * (softplus(y) - softplus(x))


def twin_exo(x: float) -> float:
    return sigmoid(x) * (-softplus(-x) - math.log(0.999)) + sigmoid(-x) * (-softplus(x) - math.log(0.001))


def twin_pro(s: list[float], r: list[float]) -> float:
    total = 0.0
    for k in range(len(s)):
        worse = [j for j in range(len(s)) if r[j] < r[k]]
        if worse:
            t = max(r[k] - r[j] for j in worse)
            terms = [s[k] * t, *(s[j] * (r[k] - r[j]) for j in worse)]
            total += max(terms) + math.log(sum(math.exp(x - max(terms)) for x in terms)) - s[k] * t
    return total


# Log-ratios a and b, log-probs w and y, counts n and k, p; by default m = a - b.
TWINS: dict[str, Callable[[Any], float]] = {
    "dpo": lambda v: softplus(-0.1 * v.m),
    "dove": lambda v: softplus(-0.1 * v.m),
    "ipo": lambda v: (v.a / v.n - v.b / v.k - 5) ** 2,
    "hinge": lambda v: max(0.0, 1 - 0.1 * v.m),
    "robust": lambda v: (0.9 * softplus(-0.1 * v.m) - 0.1 * softplus(0.1 * v.m)) / 0.8,
    "exo": lambda v: twin_exo(0.1 * v.m),
    "ln_dpo": lambda v: softplus(-5 * (v.a / v.n - v.b / v.k)),
    "length_regularised": lambda v: softplus(-(0.1 * v.m + 0.01 * (v.n - v.k))),
    "simpo": lambda v: softplus(-(2 * (v.w / v.n - v.y / v.k) - 1)),
    "cpo": lambda v: softplus(-0.1 * (v.w - v.y)) - v.w / v.n,
    "orpo": lambda v: twin_orpo(v.w, v.y, v.n, v.k),
    "apo_zero": lambda v: 1 - sigmoid(0.1 * v.a) + sigmoid(0.1 * v.b),
    "apo_down": lambda v: sigmoid(0.1 * v.a) + 1 - sigmoid(0.1 * v.m),
    "nca": lambda v: softplus(-0.1 * v.a) + softplus(0.1 * v.a) / 2 + softplus(0.1 * v.b) / 2,
    "sppo": lambda v: ((v.a - (v.p - 0.5) * 1000) ** 2 + (v.b - (0.5 - v.p) * 1000) ** 2) / 2,
    "soft": lambda v: v.p * softplus(-0.1 * v.m) + (1 - v.p) * softplus(0.1 * v.m),
    "todo": lambda v: softplus(-(0.01 * v.m - 0.5)),
    "dpop": lambda v: softplus(-0.3 * (v.m - 50 * max(0.0, -v.a))),
    "f_dpo": lambda v: softplus(-0.1 * (softplus(-v.b) - softplus(-v.a))),
    "offset": lambda v: softplus(-(0.1 * v.m - math.log(v.p + 0.5))),
    "rpo_reward_aware": lambda v: kl(v.p + 0.5, 0.1 * v.m),
    "rpo_sft": lambda v: softplus(-0.1 * v.m) - 0.005 * v.w / v.n,
    "sft": lambda v: -v.w / v.n,
    "modpo": lambda v: softplus(-(0.1 * v.m - 0.5 * (v.p + 0.5)) / 0.5),
    "rationale": lambda v: softplus(-0.1 * v.m) + softplus(3 * v.p),
    "ld_dpo": lambda v: softplus(-0.1 * sum((v.ta[i] - v.tb[i]) * (1 if i < min(v.n, v.k) else 0.5) for i in range(40))),
    "token_weights": lambda v: softplus(-0.1 * (2 * v.ta[0] - 0.5 * v.tb[0])),
    "kto": lambda v: 1 - sigmoid(0.1 * (v.a - v.p)) if v.good else 1 - sigmoid(0.1 * (v.p - v.a)),
    "bco": lambda v: softplus(-(0.1 * v.a - v.p)) if v.good else softplus(0.1 * v.a - v.p),
    "npo": lambda v: -v.w / v.n if v.good else 20 * softplus(-0.1 * -v.a),
    "plackett_luce": lambda v: softplus(-0.1 * v.m),
    "pro": lambda v: twin_pro([v.w / v.n, v.y / v.k], [1.0, 0.0]) - 0.05 * v.w,
}


class Values:
    """Random log-probs in plain numbers, and the same as tensors."""

    def __init__(self, w: float, y: float, rw: float, rl: float, n: int, k: int, p: float) -> None:
        self.w, self.y, self.n, self.k, self.p, self.good = w, y, n, k, p, n % 2
        self.a, self.b = w - rw, y - rl
        self.m = self.a - self.b
        self.ta = [self.a / n if i < n else 0.0 for i in range(40)]
        self.tb = [self.b / k if i < k else 0.0 for i in range(40)]
        one = {"chosen": w, "rejected": y, "ref_chosen": rw, "ref_rejected": rl, "n_chosen": n, "n_rejected": k, "p": p, "margin": p + 0.5}
        self.pairs = log_probs(one)
        self.unpaired = Unpaired(tensor(w), tensor(n), tensor(self.good), tensor(rw))
        lists = (tensor([w, y]), tensor([n, k]), tensor([1.0, 0.0]), torch.ones(1, 2, dtype=torch.bool), tensor([rw, rl]))
        self.ranked = Ranked(*lists)
        weights = (tensor([2.0, *[math.nan] * 39]), tensor([0.5, *[math.nan] * 39]))
        zero = torch.zeros(1, 40, dtype=torch.float64)
        tokens = Tokens(tensor(self.ta), tensor(self.tb), zero, zero, *weights)
        self.beside = {"tokens": tokens, "rationale": tensor(-30 * p), "kl": tensor(p)[0], "shift": tensor(p)[0]}


nats = st.floats(-60, -0.5)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=30, deadline=None)
@given(nats, nats, nats, nats, st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_twin(name: str, w: float, y: float, rw: float, rl: float, n: int, k: int, p: float) -> None:
    """The loss with its defaults against the formula in plain numbers."""
    values, objective = Values(w, y, rw, rl, n, k, p), resolve(name, {})
    got = objective.losses(getattr(values, objective.shape), values.beside).loss.item()
    assert got == pytest.approx(TWINS[name](values), rel=1e-9, abs=1e-9)


def random(*shape: int, seed: int = 3) -> torch.Tensor:
    return -20 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("params", [{}, {"divergence": "forward_kl"}, {"distance": "squared"}, {"scale": "linear"}, {"summed": True}])
def test_gradient(name: str, params: dict[str, Any]) -> None:
    """Against finite differences in double precision, for the defaults and the other readings of a loss."""
    if not set(params) <= set(shelf_methods("losses")[name].params):
        return
    objective = resolve(name, params)
    near = 0.1 if params.get("divergence") else 1.0  # e^-u leaves no digits to compare at u = -20
    policy, fixed = (near * random(6, 5)).requires_grad_(), near * random(4, 5, seed=4)
    counts = torch.tensor([3.0, 5, 8, 2, 6], dtype=torch.float64)
    p = torch.rand(5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    tokens, weights = random(2, 5, 9, seed=6), (p[:, None] + torch.arange(9)) % 3

    def loss(x: torch.Tensor) -> torch.Tensor:
        wide = x[:2, :, None] * torch.ones(9, dtype=torch.float64)
        beside = {"rationale": x[2], "kl": p[0], "shift": p[1], "tokens": Tokens(*wide, *tokens, weights, weights)}
        given: Given
        if objective.shape == "unpaired":
            given = Unpaired(x[0], counts, (p > 0.5).double(), fixed[0])
        elif objective.shape == "ranked":
            scores = torch.tensor([[3.0, 2, 1], [2, 2, 1], [3, 1, 1], [2, 1, 0], [2, 1, 0]], dtype=torch.float64)
            there = torch.ones(5, 3, dtype=torch.bool)
            there[3:, 2] = False
            given = Ranked(x[:3].T, counts[:, None] + torch.arange(3), scores, there, fixed[:3].T)
        else:
            given = LogProbs(x[0], x[1], counts, counts + 1, fixed[0], fixed[1], p=p, margin=p + 0.1, tie=(p > 0.5).double())
        return objective.losses(given, beside).loss

    assert torch.autograd.gradcheck(loss, (policy,))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("labels", [{}, {"margin": 0.3}, {"p": 0.4}, {"tie": 1.0}])
def test_head_gradient(name: str, labels: dict[str, float]) -> None:
    params = {"bradley_terry": {"centring": 0.05}, "regression": {"weights": [1.0, 0.5, 0, 0, -1]}}.get(name, {})
    objective = resolve(name, params)
    needs = set(objective.needs)
    if not set(labels) <= needs or set(objective.required) - set(labels):
        return
    size = objective.outputs
    outputs = torch.randn(2, 5, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    share = torch.softmax(random(5, size), -1)
    wanted = tuple(random(2, 5, size, seed=8))
    wanted[1][2, 0] = math.nan
    beside = {"draws": (random(5, size) % 3).round(), "membership": share, "taste": share, "wanted": wanted}
    told = {k: torch.full((5,), v, dtype=torch.float64) for k, v in labels.items()}

    def loss(x: torch.Tensor) -> torch.Tensor:
        return objective.losses(Rewards(*(x if objective.many else x[:, :, 0]), **told), beside).loss

    assert torch.autograd.gradcheck(loss, (outputs,))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sure", [0.0, -1e-7])
def test_finite_where_extreme(name: str, sure: float) -> None:
    """Confident models (log-prob 0) and hopeless ones (-10,000) must not overflow the loss or its gradient in float32."""
    objective = resolve(name, {})
    chosen = torch.tensor([sure, -1e4, -3.0], requires_grad=True)
    rejected = torch.tensor([-1e4, sure, -3.0], requires_grad=True)
    n = torch.tensor([3, 900, 4])
    ref = torch.tensor([-2000.0, -2000.0, -3.0])
    one = torch.ones(3)
    wide = [x[:, None] * torch.tensor([0.5, 0.5]) for x in (chosen, rejected, ref, ref)]
    beside = {"rationale": chosen, "kl": one[0], "shift": one[0], "tokens": Tokens(*wide, *torch.full((2, 3, 2), 1.0))}
    given: Given = LogProbs(chosen, rejected, n, n, ref, ref, p=one, margin=one)
    if objective.shape == "unpaired":
        given = Unpaired(chosen + rejected, n, torch.tensor([1.0, 0, 0]), ref)
    elif objective.shape == "ranked":
        both = torch.stack([chosen, rejected], -1)
        two = torch.ones(3, 2)
        given = Ranked(both, n[:, None] * two, two * torch.tensor([1.0, 0.0]), two > 0, ref[:, None] * two)
    loss = objective.losses(given, beside).loss
    loss.sum().backward()
    for value in (loss, chosen.grad, rejected.grad):
        if value is not None:
            assert torch.isfinite(value).all(), value


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_finite_where_extreme(name: str) -> None:
    objective = resolve(name, {})
    outputs = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])[:, :, None].repeat(1, 1, objective.outputs).requires_grad_()
    one = torch.ones(3, objective.outputs)
    beside = {"draws": one, "membership": one / objective.outputs, "taste": one / objective.outputs, "wanted": (one, one * math.nan)}
    tie = torch.tensor([1.0, 0, 1]) if "tie" in objective.needs else None
    scored = objective.losses(Rewards(*(outputs if objective.many else outputs[:, :, 0]), tie=tie), beside)
    scored.loss.sum().backward()
    assert torch.isfinite(scored.loss).all()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize(("shelf", "name"), METHODS)
def test_strengths_are_checked(shelf: str, name: str) -> None:
    """Every number among the parameters refuses a value at which the loss means nothing, in one sentence."""
    for param in shelf_methods(shelf)[name].params.values():
        if param.annotation in ("float", "int"):
            with pytest.raises(PrefdataError, match=param.name):
                resolve(name, {param.name: -1})


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("exo", {"label_smoothing": 0.0}, "above 0 and below 0.5"),
        ("f_dpo", {"alpha": 1.0}, "at 1 it is reverse_kl"),
        ("modpo", {"w": 0.0}, "a share above 0, up to 1"),
        ("general_preference", {"dimension": 3}, "an even number"),
        ("regression", {"weights": [1.0]}, "one number for each of 5 attributes"),
        ("ensemble", {"members": 1}, "at least 2"),
        ("plackett_luce", {"beta": 0}, "above 0"),
    ],
)
def test_values_that_mean_nothing(name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(PrefdataError, match=says):
        resolve(name, params)


def test_a_negative_margin_has_no_log() -> None:
    given = log_probs({"chosen": -1, "rejected": -2, "ref_chosen": -1, "ref_rejected": -2, "n_chosen": 1, "n_rejected": 1, "margin": -0.5})
    with pytest.raises(PrefdataError, match=r"one is -0.5; pass scale=linear"):
        resolve("offset", {}).losses(given)
    assert math.isfinite(resolve("offset", {"scale": "linear"}).losses(given).loss.item())


# What should be equal


def test_special_cases_agree() -> None:
    """Losses that contain others give the same numbers where they should."""
    values = Values(-10, -14, -11, -12, 5, 7, 1.0)

    def loss(name: str, **params: Any) -> float:
        objective = resolve(name, params)
        return objective.losses(getattr(values, objective.shape), values.beside).loss.item()

    dpo = loss("dpo")
    assert loss("plackett_luce") == pytest.approx(dpo)
    assert loss("f_dpo", divergence="reverse_kl") == pytest.approx(dpo)
    assert loss("ld_dpo", alpha=1.0) == pytest.approx(dpo)
    assert loss("modpo", w=1.0) == pytest.approx(dpo)
    assert loss("soft") == pytest.approx(dpo)
    assert loss("rpo_sft", eta=0.005) == pytest.approx(loss("dpo + 0.005*sft"))
    assert loss("cpo", alpha=0.0) == pytest.approx(math.log1p(math.exp(-0.1 * 4)))


def test_a_list_is_all_its_comparisons() -> None:
    """Plackett-Luce on three responses by its definition: the product of choices from what is left."""
    logps, ref = tensor([-10.0, -12, -9]), tensor([-12.0, -12, -8])
    s = [math.exp(0.1 * x) for x in (2, 0, -1)]
    chance = s[0] / sum(s) * s[1] / (s[1] + s[2])
    given = Ranked(logps, tensor([5.0, 6, 3]), tensor([3.0, 2, 1]), torch.ones(1, 3, dtype=torch.bool), ref)
    assert resolve("plackett_luce", {}).losses(given).loss.item() == pytest.approx(-math.log(chance))


def test_padding_of_a_list_changes_nothing() -> None:
    logps, ref = torch.tensor([[-10.0, -12, 0], [-9, -3, -4]]), torch.tensor([[-12.0, -12, 0], [-8, -3, -3]])
    n, scores = torch.tensor([[5, 6, 0], [3, 3, 3]]), torch.tensor([[1.0, 0, 0], [3, 2, 1]])
    there = torch.tensor([[True, True, False], [True, True, True]])
    for name in ("plackett_luce", "pro"):
        objective = resolve(name, {})
        both = objective.losses(Ranked(logps, n, scores, there, ref)).loss
        alone = objective.losses(Ranked(logps[:1, :2], n[:1, :2], scores[:1, :2], there[:1, :2], ref[:1, :2])).loss
        assert both[0].item() == pytest.approx(alone.item())


def test_three_outcomes_sum_to_one() -> None:
    """Rao-Kupper: a win, a loss and a tie."""
    for x in (-3.0, 0.0, 0.7):
        for width in (0.1, 0.5, 2.0):
            outcomes = ((x, 0.0), (-x, 0.0), (x, 1.0))
            chances = [math.exp(-rao_kupper(torch.tensor([of]), torch.tensor([tie]), width).item()) for of, tie in outcomes]
            assert sum(chances) == pytest.approx(1, abs=1e-6)


def test_a_cycle_is_learnable() -> None:
    """Three responses, each better than the next: vectors can say so, scalar rewards cannot."""
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0]])
    right = {}
    for name in ("general_preference", "reward"):
        objective = resolve(name, {"dimension": 2, "tau": 1.0} if name == "general_preference" else {})
        vectors = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
        optimizer = torch.optim.Adam([vectors], lr=0.05)
        for _ in range(300):
            w, r = vectors[pairs[:, 0]], vectors[pairs[:, 1]]
            scored = objective.losses(Rewards(w, r) if objective.many else Rewards(w[:, 0], r[:, 0]))
            optimizer.zero_grad()
            scored.loss.sum().backward()
            optimizer.step()
        assert scored.margin is not None
        right[name] = int((scored.margin > 1e-3).sum())
    assert right == {"general_preference": 3, "reward": 0}


def test_a_sum_of_losses() -> None:
    values = Values(-10, -14, -11, -12, 5, 7, 0.7)
    objective = resolve("dpo + 0.2*sft", {"beta": 0.3, "reduce": "sum"})
    parts = resolve("dpo", {"beta": 0.3}).losses(values.pairs).loss + 0.2 * resolve("sft", {"reduce": "sum"}).losses(values.pairs).loss
    assert objective.losses(values.pairs).loss.item() == pytest.approx(parts.item())
    assert objective.params == {"dpo.beta": 0.3, "dpo.label_smoothing": 0.0, "sft.reduce": "sum"}
    assert (objective.name, objective.beta, objective.reference) == ("dpo + 0.2*sft", 0.3, True)
    assert resolve("hinge + dpo", {"hinge.beta": 0.2, "dpo.beta": 0.4}).beta == 0.2


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("dpo + sft*2", {}, "a term of the objective is 'sft\\*2'"),
        ("dpo + 0*sft", {}, "a number above 0 and a loss"),
        ("dpo + 0.5*dpo", {}, "must be different losses"),
        ("dpo + kto", {}, r"dpo \(pairs\), kto \(unpaired\)"),
        ("dpo + reward", {}, "reward is a reward head"),
        ("dpo + hinge", {"beta": 0.3}, "unknown parameter 'beta' of the sum of dpo, hinge.*Known: dpo.beta"),
    ],
)
def test_sums_that_are_none(name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(PrefdataError, match=says):
        resolve(name, params)


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
    objective, values = resolve(name, {}), Values(-10, -14, -11, -12, 5, 7, 0.7)
    given = replace(getattr(values, objective.shape), **dict.fromkeys(REFERENCES[objective.shape]))
    tokens = replace(values.beside["tokens"], ref_chosen=None, ref_rejected=None)
    if objective.reference:
        with pytest.raises(PrefdataError, match="no reference log-probs"):
            objective.losses(given, {**values.beside, "tokens": tokens})
    else:
        assert objective.losses(given, values.beside).loss.shape == (1,)


REFERENCES = {"pairs": ("ref_chosen", "ref_rejected"), "unpaired": ("ref",), "ranked": ("ref",)}


@pytest.mark.parametrize(("shelf", "name"), METHODS)
def test_docstring_says_sum_or_mean_and_shape(shelf: str, name: str) -> None:
    method = shelf_methods(shelf)[name]
    doc = inspect.getdoc(method.load()) or ""
    assert "(B,)" in doc or "(B, K)" in doc
    if shelf == "losses":
        assert "sum" in doc.lower()
    assert method.header["paper"]
    assert all(param.doc and param.annotation != "Any" for param in method.params.values())
    assert 10 <= len(method.summary) <= 160
    assert method.summary.endswith((".", ";", ":"))
