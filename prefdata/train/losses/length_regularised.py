"""DPO with a length penalty."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="R-DPO arXiv:2403.19159")
def length_regularised(lp: LogProbs, *, beta: float = 0.1, alpha: float = 0.01) -> Tensor:
    """R-DPO: what a response wins by being longer is taken out of the margin.

    Sums of log-probs: (B,) nats and token counts in, (B,) out: -log sigmoid(beta m + alpha (n_w - n_l)). It is DPO for the
    reward r - alpha n: a pair that length alone would explain teaches little, a shorter winner teaches more.

    Args:
        beta: strength of the pull towards the reference.
        alpha: price of one token, in units of the reward.
    """
    longer = lp.n_chosen - lp.n_rejected
    return -F.logsigmoid(above_zero("beta", beta) * lp.m + at_least_zero("alpha", alpha) * longer)
