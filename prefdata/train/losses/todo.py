"""TODO, the form for won pairs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="TODO arXiv:2411.02442")
def todo(lp: LogProbs, *, beta: float = 0.01, alpha: float = 0.5) -> Tensor:
    """Tie-ranked oriented DPO, the form for won pairs: a win must exceed the width of a tie.

    Sums of log-probs: (B,) nats in, (B,) out: -log sigmoid(beta m - alpha), from the Rao-Kupper model with tie width alpha.
    The authors' code stores theta = -alpha.

    Args:
        beta: strength of the pull towards the reference.
        alpha: half-width of a tie, in units of beta m.
    """
    return -F.logsigmoid(above_zero("beta", beta) * lp.m - at_least_zero("alpha", alpha))
