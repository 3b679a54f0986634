"""Multi-objective DPO."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, column


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "margin"), paper="MODPO arXiv:2310.03708")
def modpo(lp: LogProbs, *, beta: float = 0.1, w: float = 0.5) -> Tensor:
    """Multi-objective DPO: train one preference while other rewards, already known, take their share of the margin.

    Sums of log-probs: (B,) nats in, (B,) out: -log sigmoid((beta m - (1 - w) margin) / w). The column `margin` holds what
    the other objectives' rewards say: reward of the chosen minus reward of the rejected response; with several of them
    their weighted mean. One run per w gives the front of compromises.

    Args:
        beta: strength of the pull towards the reference.
        w: weight of the preference that the labels hold; the other objectives share the rest.
    """
    gap = column(lp.margin, "losses/modpo", "margin", "gap of the other objectives' reward", "dpo")
    if not 0 < w <= 1:
        raise BadValue("w", w, "a share above 0, up to 1")
    return -F.logsigmoid((above_zero("beta", beta) * lp.m - (1 - w) * gap) / w)
