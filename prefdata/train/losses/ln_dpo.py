"""DPO on log-ratios per token."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(
    version=1,
    needs=("ref_logp_chosen", "ref_logp_rejected"),
    gives={"margin": "nats per token"},
    paper="LN-DPO arXiv:2407.15229, Tulu 3 arXiv:2411.15124",
)
def ln_dpo(lp: LogProbs, *, beta: float = 5.0) -> Tensor:
    """Length-normalised DPO: the logistic loss on log-ratios per token.

    (B,) sums in, divided by token counts here, (B,) out: -log sigmoid(beta (a / n_w - b / n_l)). Per-token ratios are
    small, so beta is larger than in DPO; 5 is the value of Tulu 3.

    Args:
        beta: strength of the pull towards the reference, per token.
    """
    return -F.logsigmoid(above_zero("beta", beta) * (lp.a / lp.n_chosen - lp.b / lp.n_rejected))
