"""DPO on soft labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import PrefdataError
from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "p"), paper="OSP arXiv:2405.14103")
def soft(lp: LogProbs, *, beta: float = 0.1) -> Tensor:
    """DPO on soft labels: cross-entropy between the label's probability and the model's.

    Sums of log-probs: (B,) nats in, (B,) out: p L(beta m) + (1 - p) L(-beta m) with L(x) = -log sigmoid(x). The minimum is
    at beta m = logit(p), so a pair that is nearly a tie is not pushed apart. Reads the column `p` and needs it.

    Args:
        beta: strength of the pull towards the reference.
    """
    if lp.p is None:
        raise PrefdataError(
            "losses/soft reads the column p (probability that the chosen response is better) and the export has none; export "
            "soft labels, or train dpo."
        )
    x = above_zero("beta", beta) * lp.m
    return -lp.p * F.logsigmoid(x) - (1 - lp.p) * F.logsigmoid(-x)
