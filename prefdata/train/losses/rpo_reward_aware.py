"""Reward-aware preference optimisation."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, column


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "margin"), paper="Reward-aware RPO (Nemotron-4) arXiv:2406.11704")
def rpo_reward_aware(
    lp: LogProbs, *, beta: float = 0.1, eta: float = 1.0, distance: Literal["backward", "forward", "squared"] = "backward"
) -> Tensor:
    """Reward-aware preference optimisation: the implicit margin is to equal the margin of a given reward, not to exceed it.

    Sums of log-probs: (B,) nats in, (B,) out. With p = sigmoid(eta margin) and q = sigmoid(beta m): backward is KL(p || q),
    forward KL(q || p), squared (beta m - eta margin)^2. Reads the column `margin` (the reward's gap) and needs it.

    Args:
        beta: strength of the pull towards the reference.
        eta: scale of the given reward.
        distance: between the two margins.
    """
    gap = column(lp.margin, "losses/rpo_reward_aware", "margin", "reward of the chosen response minus that of the rejected", "dpo")
    x, y = above_zero("beta", beta) * lp.m, above_zero("eta", eta) * gap
    if distance == "squared":
        return (x - y) ** 2
    to, of = (x, y) if distance == "backward" else (y, x)
    win = torch.sigmoid(of) * (F.logsigmoid(of) - F.logsigmoid(to))
    return win + torch.sigmoid(-of) * (F.logsigmoid(-of) - F.logsigmoid(-to))
