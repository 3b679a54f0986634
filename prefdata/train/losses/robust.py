"""Robust DPO for noisy labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, flip_rate


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="rDPO arXiv:2403.00409")
def robust(lp: LogProbs, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Tensor:
    """Robust DPO: the logistic loss made unbiased under a known share of flipped labels.

    Sums of log-probs: (B,) nats in, (B,) out: ((1 - e) L(x) - e L(-x)) / (1 - 2 e) with x = beta m. A single pair's
    loss can be negative; its mean over flips is the DPO loss on the true label.

    Args:
        beta: strength of the pull towards the reference.
        label_smoothing: share e of flipped labels, best from an audit of the labels; below 0.5.
    """
    x = above_zero("beta", beta) * lp.m
    e = flip_rate("label_smoothing", label_smoothing)
    return (-(1 - e) * F.logsigmoid(x) + e * F.logsigmoid(-x)) / (1 - 2 * e)
