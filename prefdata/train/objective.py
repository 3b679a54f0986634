"""What is trained for: a loss, a weighted sum of losses, or a reward head, from the shelves and bound to its parameters.

A method's arguments left of the `*` say what it is handed (see `inputs.py`); its first one, what a row is. What its header
says besides:

    needs    columns of the export; LABELS among them refine what a label says, the others it cannot do without
    gives    margin: the unit of what the loss compares; outputs: the parameter that says how many numbers a head gives
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from prefdata.core.catalogue import find, shelf_methods
from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.core.method import Method
from prefdata.train.inputs import LogProbs, Ranked, Rewards, Scored, Tokens, Unpaired

LABELS = ("margin", "p", "tie")
"""Columns that refine what a label says; read where the user asks for them, or the objective cannot do without."""
Given = LogProbs | Unpaired | Ranked | Rewards
Shape = Literal["pairs", "unpaired", "ranked"]
_SHAPES: dict[str, Shape] = {"lp": "pairs", "unpaired": "unpaired", "ranked": "ranked", "rewards": "pairs"}
_ONE_OUTPUT = {"reward": "bradley_terry"}
"""Names of heads that people know under another one."""


@dataclass(frozen=True)
class Term:
    """One loss or head, bound."""

    method: Method
    params: Mapping[str, Any]
    function: Callable[..., Tensor | Scored]
    factor: float = 1.0

    @property
    def handed(self) -> tuple[str, ...]:
        """What it takes beside the rows' values."""
        return self.method.handed[1:]

    def __call__(self, given: Given, beside: Mapping[str, Any]) -> Tensor | Scored:
        return self.function(given, **{name: beside[name] for name in self.handed}, **self.params)


@dataclass(frozen=True)
class Objective:
    """What a run minimises: the sum of its terms."""

    name: str
    kind: Literal["policy", "reward"]
    shape: Shape
    """What a row is: two responses, one, or a ranked list."""
    terms: tuple[Term, ...]

    @property
    def params(self) -> dict[str, Any]:
        """Every parameter; in a sum of losses as `loss.parameter`."""
        if len(self.terms) == 1:
            return dict(self.terms[0].params)
        return {f"{t.method.name}.{name}": value for t in self.terms for name, value in t.params.items()}

    @property
    def key(self) -> str:
        return " + ".join(t.method.key(t.params, {"factor": t.factor}) for t in self.terms)

    @property
    def method(self) -> str:
        """Shelf, name and version."""
        return " + ".join(f"{t.method.shelf}/{t.method.name}@{t.method.version}" for t in self.terms)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for t in self.terms for name in t.method.header["needs"]))

    @property
    def handed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for t in self.terms for name in t.handed))

    @property
    def paper(self) -> str:
        return "; ".join(str(t.method.header["paper"]) for t in self.terms)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Rated columns that a regression reads."""
        return tuple(self.terms[0].params["attributes"]) if "attributes" in self.needs else ()

    @property
    def outputs(self) -> int:
        """Numbers a reward model gives for a response."""
        value = self.terms[0].params[self.terms[0].method.header["gives"]["outputs"]] if self.many else 1
        return value if isinstance(value, int) else len(value)

    @property
    def many(self) -> bool:
        """Whether a head is handed (B, D) rather than (B,)."""
        return "outputs" in self.terms[0].method.header["gives"]

    @property
    def required(self) -> tuple[str, ...]:
        """The label columns it reads and fails without.

        Found by trying: a value that no columns can mend, such as beta = 0, raises its own error.
        """
        problem: PrefdataError | None = None
        for columns in ((), *((c,) for c in LABELS if c in self.needs)):
            try:
                self.losses(*sample(self, columns))
                return columns
            except PrefdataError as error:
                problem = error
        raise problem or PrefdataError(f"{self.name} takes no row.")

    @property
    def reference(self) -> bool:
        return any(name.startswith("ref_logp") for name in self.needs)

    @property
    def beta(self) -> float:
        """What turns a difference of log-ratios (or log-probs) into the implicit reward margin."""
        return float(next((t.params["beta"] for t in self.terms if "beta" in t.params), 1.0))

    @property
    def per_token(self) -> bool:
        """Whether the first term compares means over tokens (its header says gives={"margin": "nats per token"}) or sums."""
        first = self.terms[0]
        return first.method.header["gives"].get("margin") == "nats per token" and not first.params.get("summed", False)

    def losses(self, given: Given, beside: Mapping[str, Any] | None = None) -> Scored:
        """One loss per row, (B,), times the row's weight where there is one; a head's rewards with it.

        Args:
            given: log-probs or rewards of B rows.
            beside: what the methods take beside them, by name.
        """
        found = [(t.factor, t(given, beside or {})) for t in self.terms]
        (_, first), *_ = found
        total = sum((f * (x.loss if isinstance(x, Scored) else x) for f, x in found[1:]), start=_loss(first) * found[0][0])
        weighted = total if given.weight is None else total * given.weight
        return Scored(weighted, first.margin, first.chosen, first.rejected) if isinstance(first, Scored) else Scored(weighted, None)


def _loss(found: Tensor | Scored) -> Tensor:
    return found.loss if isinstance(found, Scored) else found


def resolve(name: str, params: Mapping[str, Any]) -> Objective:
    """Find the objective by name, bind its parameters and try them on two made-up rows (`Objective.required`).

    The trial makes a value such as beta = 0 fail here, before a model is loaded.

    Args:
        name: a loss, a head (reward for the usual one), or losses with factors, as in "dpo + 0.2*sft".
        params: of the method; of a sum's losses as `loss.parameter`, the loss's name left out where only one has it.
    """
    parts = [part.strip() for part in name.split("+")]
    if len(parts) > 1:
        objective = _sum(parts, params)
    else:
        shelf, method = _look_up(name)
        bound = method.bind(params)
        kind: Literal["policy", "reward"] = "reward" if shelf == "heads" else "policy"
        given = "reward" if method.name == "bradley_terry" else method.name
        objective = Objective(given, kind, _SHAPES[method.handed[0]], (Term(method, bound, method.load()),))
    _ = objective.required
    return objective


def _look_up(name: str) -> tuple[str, Method]:
    name = _ONE_OUTPUT.get(name, name)
    for shelf in ("losses", "heads"):
        if name in shelf_methods(shelf):
            return shelf, find(shelf, name)
    raise UnknownName("objective", name, [*shelf_methods("losses"), *shelf_methods("heads"), "reward"])


def _sum(parts: Sequence[str], params: Mapping[str, Any]) -> Objective:
    """`0.8*dpo + 0.2*sft`"""
    found: list[tuple[float, Method]] = []
    for part in parts:
        match = re.fullmatch(r"(?:([0-9.eE+-]+)\s*\*\s*)?(\w+)", part)
        try:
            factor = float(match[1] or 1) if match else 0.0
        except ValueError:
            factor = 0.0
        if not match or not 0 < factor < float("inf"):
            raise BadValue("a term of the objective", part, 'a loss, or a number above 0 and a loss: "dpo + 0.2*sft"')
        shelf, method = _look_up(match[2])
        if shelf == "heads":
            raise PrefdataError(f"{match[2]} is a reward head and cannot be a term of a sum; losses can.")
        found.append((factor, method))
    names = [m.name for _, m in found]
    if len(set(names)) < len(names) or len({m.handed[0] for _, m in found}) > 1:
        rows = ", ".join(f"{m.name} ({_SHAPES[m.handed[0]]})" for _, m in found)
        raise PrefdataError(f"the terms {rows} cannot be added: they must be different losses on rows of one kind.")
    shared = _share_out(params, [m for _, m in found])
    terms = tuple(Term(m, m.bind(shared[m.name]), m.load(), f) for f, m in found)
    shown = " + ".join(m.name if f == 1 else f"{f:g}*{m.name}" for f, m in found)
    return Objective(shown, "policy", _SHAPES[found[0][1].handed[0]], terms)


def _share_out(params: Mapping[str, Any], methods: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """Each loss's parameters."""
    known = {f"{m.name}.{p}": (m.name, p) for m in methods for p in m.params}
    for p in {p for m in methods for p in m.params}:
        owners = [m.name for m in methods if p in m.params]
        if len(owners) == 1:
            known[p] = (owners[0], p)
    out: dict[str, dict[str, Any]] = {m.name: {} for m in methods}
    for name, value in params.items():
        if name not in known:
            raise UnknownName("parameter", name, known, " of the sum of " + ", ".join(m.name for m in methods))
        method, p = known[name]
        out[method][p] = value
    return out


def sample(objective: Objective, columns: Collection[str]) -> tuple[Given, dict[str, Any]]:
    """Two made-up rows with the given label columns, to see whether the objective takes them."""
    one = torch.ones(2)
    labels = {name: one for name in LABELS if name in columns}
    tokens = Tokens(*(-torch.ones(2, 3) for _ in range(4)), *(torch.ones(2, 3) for _ in range(2)))
    size = max(1, objective.outputs)  # a number below 1 is refused by the head itself
    wide = torch.ones(2, size)
    beside = {"tokens": tokens, "rationale": -one, "kl": one[0], "shift": one[0], "wanted": (wide, wide),
              "draws": wide, "membership": wide / size, "taste": wide / size}  # fmt: skip
    given: Given
    if objective.kind == "reward":
        given = Rewards(wide, -wide, **labels) if objective.many else Rewards(one, -one, **labels)
    elif objective.shape == "unpaired":
        given = Unpaired(-one, one, torch.tensor([1.0, 0.0]), -one)
    elif objective.shape == "ranked":
        two = torch.ones(2, 2)
        given = Ranked(-two, two, torch.tensor([[1.0, 0.0]] * 2), two > 0, -two)
    else:
        given = LogProbs(chosen=-one, rejected=-2 * one, n_chosen=one, n_rejected=one, ref_chosen=-one, ref_rejected=-one, **labels)
    return given, beside
