"""The Rao-Kupper model of ties, shared by a loss and a head."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rao_kupper(x: Tensor, tie: Tensor, width: float) -> Tensor:
    """-log of the probability of what was judged, (B,): a win of the first where `tie` is 0, a tie where it is 1.

    P(win) = sigmoid(x - width), P(tie) = 1 - P(win) - P(loss) = (e^(2 width) - 1) sigmoid(x - width) sigmoid(-x - width).

    Args:
        x: log-odds of the first response (B,).
        tie: 0 or 1 (B,).
        width: half-width of a tie, above 0.
    """
    win = -F.logsigmoid(x - width)
    return win - tie * (F.logsigmoid(-x - width) + _log_expm1(2 * width))


def _log_expm1(x: float) -> float:
    """log(e^x - 1) without overflow."""
    return x + math.log(-math.expm1(-x)) if x > 0 else -torch.inf
