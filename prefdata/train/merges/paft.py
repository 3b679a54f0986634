"""PAFT: merge of parallel fine-tunings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import above_zero, share


@method(version=1, paper="PAFT arXiv:2406.17923; TIES arXiv:2306.01708")
def paft(
    base: Tensor,
    sft: Tensor,
    tuned: Tensor,
    *,
    how: Literal["ties", "linear", "slerp"] = "ties",
    density: float = 0.2,
    weight: float = 1.0,
    balance: float = 0.5,
) -> Tensor:
    """Parallel fine-tuning: an instruction-tuned and a preference-tuned model of one base, merged by what each changed.

    Tensors of any shape in, the same out. With changes d_1 = sft - base and d_2 = tuned - base: `ties` keeps the largest
    `density` share of each, elects the sign of their sum per weight, averages those that agree and adds `weight` times it;
    `linear` adds weight ((1 - balance) d_1 + balance d_2); `slerp` goes from sft to tuned along the arc between them.
    Shares are taken per tensor.

    Args:
        how: the way to merge.
        density: share of each change that ties keeps, above 0.
        weight: of the merged change, for ties and linear.
        balance: 0 is the instruction-tuned model, 1 the preference-tuned one, for linear and slerp.
    """
    above_zero("weight", weight)
    if not 0 < density <= 1:
        raise BadValue("density", density, "a share above 0, up to 1")
    if how == "slerp":
        return _slerp(sft, tuned, share("balance", balance))
    changes = torch.stack([sft - base, tuned - base])
    if how == "linear":
        return base + weight * torch.lerp(changes[0], changes[1], share("balance", balance))
    kept = torch.stack([_largest(change, density) for change in changes])
    sign = kept.sum(0).sign()
    agree = (kept.sign() == sign) & (kept != 0)
    return base + weight * kept.where(agree, 0.0).sum(0) / agree.sum(0).clamp(min=1)


def _largest(change: Tensor, density: float) -> Tensor:
    """The weights that changed most, the others at 0."""
    count = max(1, round(density * change.numel()))
    least = change.abs().flatten().kthvalue(change.numel() - count + 1).values
    return change.where(change.abs() >= least, 0.0)


def _slerp(one: Tensor, other: Tensor, t: float) -> Tensor:
    """Between two tensors along the arc; along the line where they point the same way."""
    angle = torch.acos((one.flatten() @ other.flatten() / (one.norm() * other.norm()).clamp(min=1e-12)).clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(one, other, t)
    return (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)
