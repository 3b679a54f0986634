"""DPO with a floor under the chosen response."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="DPOP (Smaug) arXiv:2402.13228")
def dpop(lp: LogProbs, *, beta: float = 0.3, lam: float = 50.0) -> Tensor:
    """DPO-positive (Smaug): DPO with a penalty where the chosen response became less likely than under the reference.

    Sums of log-probs: (B,) nats in, (B,) out: -log sigmoid(beta (m - lam max(0, -a))). Equals DPO while a >= 0.

    Args:
        beta: strength of the pull towards the reference.
        lam: weight of the penalty.
    """
    penalty = at_least_zero("lam", lam) * F.relu(-lp.a)
    return -F.logsigmoid(above_zero("beta", beta) * (lp.m - penalty))
