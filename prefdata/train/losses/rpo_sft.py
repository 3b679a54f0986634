"""DPO with a likelihood term."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="RPO arXiv:2405.16436, Iterative RPO arXiv:2404.19733")
def rpo_sft(lp: LogProbs, *, beta: float = 0.1, eta: float = 0.005) -> Tensor:
    """Regularised DPO: the logistic loss plus the chosen response's likelihood, against over-optimisation.

    Sums of log-probs in the contrast, the MEAN per token in the likelihood term: (B,) nats in, (B,) out:
    -log sigmoid(beta m) - eta lp_w / n_w. The likelihood is averaged per row, so the loss does not depend on the batching.

    Args:
        beta: strength of the pull towards the reference.
        eta: weight of the likelihood; 0.005 is RPO's, Iterative RPO takes 1.
    """
    return -F.logsigmoid(above_zero("beta", beta) * lp.m) - at_least_zero("eta", eta) * lp.chosen / lp.n_chosen
