"""Attribute scores by regression."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored


@method(version=1, needs=("attributes",), gives={"outputs": "attributes"}, paper="HelpSteer2 arXiv:2406.08673")
def regression(
    rewards: Rewards,
    wanted: tuple[Tensor, Tensor],
    *,
    attributes: tuple[str, ...] = ("helpfulness", "correctness", "coherence", "complexity", "verbosity"),
    weights: tuple[float, ...] = (),
) -> Scored:
    """One score per attribute, fitted to people's ratings by least squares; the reward is a weighted sum of them.

    (B, D) outputs in, (B,) out: the mean squared error over the attributes that were rated (a missing rating is left out),
    of both responses where the row has two. Reads one column per attribute: `helpfulness`, ... beside prompt and
    completion, or `chosen_helpfulness` and `rejected_helpfulness`, ... beside a pair.

    Args:
        attributes: names of the rated columns.
        weights: of the attributes in the reward; empty: the first one's score is the reward.
    """
    if len(weights) not in (0, len(attributes)):
        raise BadValue("weights", weights, f"one number for each of {len(attributes)} attributes, or none")
    w = torch.tensor(weights or [1.0] + [0.0] * (len(attributes) - 1), dtype=rewards.chosen.dtype, device=rewards.chosen.device)
    sides = [(rewards.chosen, wanted[0])] + ([] if rewards.rejected is None else [(rewards.rejected, wanted[1])])
    known = torch.cat([~want.isnan() for _, want in sides], dim=1)
    errors = torch.cat([got - want.nan_to_num() for got, want in sides], dim=1).where(known, 0.0)
    loss = (errors**2).sum(1) / known.sum(1).clamp(min=1)
    chosen = rewards.chosen @ w
    if rewards.rejected is None:
        return Scored(loss, None, chosen)
    return Scored(loss, chosen - rewards.rejected @ w, chosen, rewards.rejected @ w)
