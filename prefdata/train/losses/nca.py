"""NCA for pairs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="NCA arXiv:2402.05369")
def nca(lp: LogProbs, *, beta: float = 0.1) -> Tensor:
    """Noise-contrastive alignment of a pair: the likelihood of both responses is also pulled towards the reference's.

    Sums of log-probs: (B,) nats in, (B,) out: L(beta a) + (L(-beta a) + L(-beta b)) / 2 with L(x) = -log sigmoid(x),
    the paper's loss for pairs.

    Args:
        beta: strength of the pull towards the reference.
    """
    beta = above_zero("beta", beta)
    a, b = beta * lp.a, beta * lp.b
    return -F.logsigmoid(a) - 0.5 * F.logsigmoid(-a) - 0.5 * F.logsigmoid(-b)
