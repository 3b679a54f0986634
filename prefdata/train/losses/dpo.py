"""DPO, the logistic loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, flip_rate


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="DPO arXiv:2305.18290")
def dpo(lp: LogProbs, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimisation: logistic loss on the reward margin, optionally with smoothed labels.

    Sums of log-probs, not means: (B,) nats in, (B,) out. Equation 7 of the paper; with `label_smoothing` e it is
    conservative DPO, (1 - e) L(x) + e L(-x) with x = beta m and L(x) = -log sigmoid(x).

    Args:
        beta: strength of the pull towards the reference.
        label_smoothing: share of labels taken to be wrong.
    """
    x = above_zero("beta", beta) * lp.m
    e = flip_rate("label_smoothing", label_smoothing)
    return -(1 - e) * F.logsigmoid(x) - e * F.logsigmoid(-x)
