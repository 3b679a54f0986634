"""APO-zero."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="APO arXiv:2408.06266")
def apo_zero(lp: LogProbs, *, beta: float = 0.1) -> Tensor:
    """Anchored preference optimisation, zero: raise the chosen response and lower the rejected one, each on its own.

    Sums of log-probs: (B,) nats in, (B,) out: 1 - sigmoid(beta a) + sigmoid(beta b), equation 7 of the paper. For pairs
    whose chosen response is better than what the model itself would write.

    Args:
        beta: strength of the pull towards the reference.
    """
    beta = above_zero("beta", beta)
    return 1 - torch.sigmoid(beta * lp.a) + torch.sigmoid(beta * lp.b)
