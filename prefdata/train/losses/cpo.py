"""CPO, reference-free."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero


@method(version=1, paper="CPO arXiv:2401.08417")
def cpo(lp: LogProbs, *, beta: float = 0.1, alpha: float = 1.0) -> Tensor:
    """Contrastive preference optimisation: DPO with a uniform reference, plus the chosen response's likelihood.

    Sums in the contrast, the MEAN per token in the likelihood term: (B,) nats in, (B,) out:
    -log sigmoid(beta (lp_w - lp_l)) - alpha lp_w / n_w. The likelihood is averaged per row, not over the batch's
    tokens, so that the loss does not depend on the batching.

    Args:
        beta: scale of the log-prob difference.
        alpha: weight of the likelihood term.
    """
    contrast = -F.logsigmoid(above_zero("beta", beta) * (lp.chosen - lp.rejected))
    return contrast - at_least_zero("alpha", alpha) * lp.chosen / lp.n_chosen
