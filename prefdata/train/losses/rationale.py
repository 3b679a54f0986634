"""DPO with rationales."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "rationale"), paper="Preference rationales arXiv:2407.14477")
def rationale(lp: LogProbs, rationale: Tensor, *, beta: float = 0.1, gamma: float = 0.1) -> Tensor:
    """DPO that also learns why: the likelihood of a rationale, asked for behind the prompt and both responses.

    Sums of log-probs, the rationale's too: (B,) nats in, (B,) out: -log sigmoid(beta m) - log sigmoid(gamma lp_rationale),
    as the authors' code has it (not a plain likelihood; for long rationales it is nearly -gamma lp). Reads the column
    `rationale` and, where there is one, `rationale_prompt`: the question in full. Held-out rows need it, too.

    Args:
        beta: strength of the pull towards the reference.
        gamma: scale of the rationale's log-probability.
    """
    return -F.logsigmoid(above_zero("beta", beta) * lp.m) - F.logsigmoid(above_zero("gamma", gamma) * rationale)
