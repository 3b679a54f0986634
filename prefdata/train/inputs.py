"""What losses and heads are handed: one value per pair, and the checks they share.

Shapes: (B,) for B pairs. Log-probs are natural, SUMMED over the response's tokens (its end-of-turn token included).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdata.core.errors import BadValue, PrefdataError


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of the chosen and the rejected response under the policy and the reference."""

    chosen: Tensor
    rejected: Tensor
    n_chosen: Tensor
    n_rejected: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    margin: Tensor | None = None
    """How much better the chosen one was judged, in the labels' own scale."""
    weight: Tensor | None = None
    """Multiplied onto the loss by the loop; a loss does not read it."""
    p: Tensor | None = None
    """Probability that the chosen one is better, in [0, 1]."""

    @property
    def a(self) -> Tensor:
        """Log-ratio of the chosen response, policy over reference (nats, summed)."""
        return self.chosen - _reference(self.ref_chosen)

    @property
    def b(self) -> Tensor:
        """Log-ratio of the rejected response."""
        return self.rejected - _reference(self.ref_rejected)

    @property
    def m(self) -> Tensor:
        """Margin of the log-ratios, a - b."""
        return self.a - self.b


@dataclass(frozen=True)
class Rewards:
    """Scalar rewards of the chosen and the rejected response."""

    chosen: Tensor
    rejected: Tensor
    margin: Tensor | None = None
    weight: Tensor | None = None
    p: Tensor | None = None


def _reference(value: Tensor | None) -> Tensor:
    if value is None:
        raise PrefdataError(
            "this loss compares with a reference and got no reference log-probs; its header must say "
            "needs=('ref_logp_chosen', 'ref_logp_rejected')."
        )
    return value


def above_zero(name: str, value: float) -> float:
    """A strength such as beta: at 0 the loss has no gradient."""
    if not value > 0:
        raise BadValue(name, value, "a number above 0")
    return value


def at_least_zero(name: str, value: float) -> float:
    if not value >= 0:
        raise BadValue(name, value, "a number of at least 0")
    return value


def flip_rate(name: str, value: float) -> float:
    """A share of wrong labels; at 0.5 labels say nothing, above it they say the opposite."""
    if not 0 <= value < 0.5:
        raise BadValue(name, value, "a share from 0 to below 0.5")
    return value


def soft_labels(lp: LogProbs | Rewards) -> Tensor:
    """`p`, or 1 for every pair where the export has no such column."""
    return torch.ones_like(lp.chosen) if lp.p is None else lp.p
