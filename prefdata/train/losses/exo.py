"""EXO for pairs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="EXO arXiv:2402.00856")
def exo(lp: LogProbs, *, beta: float = 0.1, label_smoothing: float = 0.001) -> Tensor:
    """Efficient exact optimisation for a pair: the reverse KL between the policy's preference and a smoothed label.

    Sums of log-probs: (B,) nats in, (B,) out, equation 16 of the paper: with q = sigmoid(beta m) and label 1 - e,
    q log(q / (1 - e)) + (1 - q) log((1 - q) / e). It seeks the mode where DPO covers both sides.

    Args:
        beta: strength of the pull towards the reference.
        label_smoothing: probability e that the rejected response is better; above 0, as a sure label makes the loss infinite.
    """
    if not 0 < label_smoothing < 0.5:
        raise BadValue("label_smoothing", label_smoothing, "a share above 0 and below 0.5")
    x = above_zero("beta", beta) * lp.m
    win = torch.sigmoid(x) * (F.logsigmoid(x) - math.log1p(-label_smoothing))
    lose = torch.sigmoid(-x) * (F.logsigmoid(-x) - math.log(label_smoothing))
    return win + lose
