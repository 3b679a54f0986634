"""SimPO, reference-free."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero


@method(version=1, gives={"margin": "nats per token"}, paper="SimPO arXiv:2405.14734")
def simpo(lp: LogProbs, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """SimPO: the logistic loss on the difference of mean log-probs, minus a target margin; no reference.

    (B,) sums in, divided by token counts here, (B,) out: -log sigmoid(beta (lp_w / n_w - lp_l / n_l) - gamma), equation 6
    of the paper. Gamma stands outside beta, as in the paper (TRL writes it as beta (... - gamma / beta)).

    Args:
        beta: scale of the mean log-prob difference.
        gamma: margin that the scaled difference must exceed.
    """
    x = above_zero("beta", beta) * (lp.chosen / lp.n_chosen - lp.rejected / lp.n_rejected)
    return -F.logsigmoid(x - at_least_zero("gamma", gamma))
