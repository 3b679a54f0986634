"""The Bradley-Terry reward loss."""

from __future__ import annotations

import torch.nn.functional as F

from prefdata.core.errors import PrefdataError
from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored, at_least_zero


@method(version=1, needs=("margin", "p"), paper="Bradley-Terry; margin: Llama 2 arXiv:2307.09288; centring: arXiv:2312.09244")
def bradley_terry(rewards: Rewards, *, centring: float = 0.0) -> Scored:
    """Scalar reward per response; the difference of two is the log-odds that the chosen one is better.

    (B,) rewards in, (B,) nats out: -log sigmoid(r_w - r_l - margin) + centring (r_w + r_l)^2. `margin`, where it is
    given, is the gap the rewards must exceed, in logits. `p`, where it is given, makes the label soft:
    p L(r_w - r_l) + (1 - p) L(r_l - r_w) with L(x) = -log sigmoid(x). Both at once say two things about one label.

    Args:
        centring: pull of the two rewards' sum towards 0, where their level is otherwise free; 0.01 is common.
    """
    chosen, rejected = rewards.both
    gap = chosen - rejected
    if rewards.p is None:
        loss = -F.logsigmoid(gap if rewards.margin is None else gap - rewards.margin)
    elif rewards.margin is None:
        loss = -rewards.p * F.logsigmoid(gap) - (1 - rewards.p) * F.logsigmoid(-gap)
    else:
        raise PrefdataError("heads/bradley_terry reads margin or p, not both at once; pass one of them with use (--use margin or --use p).")
    centre = at_least_zero("centring", centring) * (chosen + rejected) ** 2
    return Scored(loss + centre, gap, chosen, rejected)
