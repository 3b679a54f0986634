"""What is trained for: a loss or a head from the shelves, bound to its parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from prefdata.core.catalogue import find, shelf_methods
from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.train.inputs import LogProbs, Rewards

REFERENCE = ("ref_logp_chosen", "ref_logp_rejected")
LABELS = ("margin", "p")
"""Columns that refine what a label says; read where the user asks for them, or the objective cannot do without."""


@dataclass(frozen=True)
class Objective:
    """A bound loss (policy) or head (reward)."""

    name: str
    kind: Literal["policy", "reward"]
    key: str
    params: Mapping[str, Any]
    needs: tuple[str, ...]
    gives: Mapping[str, str]
    paper: str
    function: Callable[..., Tensor]

    @property
    def required(self) -> tuple[str, ...]:
        """The label columns it reads and fails without."""
        try:
            self.losses(sample(self, ()))
        except PrefdataError:
            return tuple(c for c in LABELS if c in self.needs)
        return ()

    @property
    def reference(self) -> bool:
        return set(REFERENCE) <= set(self.needs)

    @property
    def beta(self) -> float:
        """What turns a difference of log-ratios (or log-probs) into the implicit reward margin."""
        return float(self.params.get("beta", 1.0))

    @property
    def per_token(self) -> bool:
        """Whether the loss compares means over tokens (its header says gives={"margin": "nats per token"}) or sums."""
        return self.gives.get("margin") == "nats per token" and not self.params.get("summed", False)

    def losses(self, given: LogProbs | Rewards) -> Tensor:
        """One loss per pair, (B,), times the pair's weight where there is one."""
        losses = self.function(given, **self.params)
        return losses if given.weight is None else losses * given.weight


def resolve(name: str, params: Mapping[str, Any]) -> Objective:
    """Find the objective by name, bind its parameters and try them on two made-up pairs.

    The trial makes a value such as beta = 0 fail here, before a model is loaded.
    """
    shelf, method_name = ("heads", "bradley_terry") if name == "reward" else ("losses", name)
    if shelf == "losses" and name not in shelf_methods("losses"):
        raise UnknownName("objective", name, [*shelf_methods("losses"), "reward"])
    method = find(shelf, method_name)
    bound = method.bind(params)
    objective = Objective(
        name=name,
        kind="reward" if shelf == "heads" else "policy",
        key=method.key(bound, {}),
        params=bound,
        needs=tuple(method.header["needs"]),
        gives=dict(method.header["gives"]),
        paper=str(method.header["paper"]),
        function=method.load(),
    )
    objective.losses(sample(objective, {"p"} & set(method.header["needs"])))
    return objective


def sample(objective: Objective, columns: Collection[str]) -> LogProbs | Rewards:
    """Two made-up pairs with the given label columns, to see whether the objective takes them."""
    one = torch.ones(2)
    labels = {name: one for name in LABELS if name in columns}
    if objective.kind == "reward":
        return Rewards(chosen=one, rejected=-one, **labels)
    return LogProbs(chosen=-one, rejected=-2 * one, n_chosen=one, n_rejected=one, ref_chosen=-one, ref_rejected=-one, **labels)
