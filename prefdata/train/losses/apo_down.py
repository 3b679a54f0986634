"""APO-down."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="APO arXiv:2408.06266")
def apo_down(lp: LogProbs, *, beta: float = 0.1) -> Tensor:
    """Anchored preference optimisation, down: lower both responses, the rejected one further.

    Sums of log-probs: (B,) nats in, (B,) out: sigmoid(beta a) + 1 - sigmoid(beta m), equation 8 of the paper. For pairs
    whose chosen response is worse than what the model itself would write.

    Args:
        beta: strength of the pull towards the reference.
    """
    beta = above_zero("beta", beta)
    return torch.sigmoid(beta * lp.a) + 1 - torch.sigmoid(beta * lp.m)
