"""Hinge loss (SLiC, RSO)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="SLiC-HF arXiv:2305.10425")
def hinge(lp: LogProbs, *, beta: float = 0.1) -> Tensor:
    """Hinge loss on the reward margin, as SLiC-HF and RSO use it.

    Sums of log-probs: (B,) nats in, (B,) out: max(0, 1 - beta m). Zero gradient once beta m reaches 1.

    Args:
        beta: the reciprocal of the margin, in nats, at which a pair stops to count.
    """
    return F.relu(1 - above_zero("beta", beta) * lp.m)
