"""DPO over prompt and response together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "rejected_prompt"), paper="DOVE arXiv:2404.00530")
def dove(lp: LogProbs, *, beta: float = 0.1) -> Tensor:
    """Joint preferences: DPO on the log-probability of prompt AND response, so that the two may answer different prompts.

    Sums of log-probs over all tokens of prompt and response: (B,) nats in, (B,) out: -log sigmoid(beta m). The column
    `rejected_prompt` holds the rejected response's prompt. The tokens with which both begin cancel and are left out; where
    the prompts are the same it is DPO.

    Args:
        beta: strength of the pull towards the reference.
    """
    return -F.logsigmoid(above_zero("beta", beta) * lp.m)
