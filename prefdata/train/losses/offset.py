"""DPO with offsets from the labels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import PrefdataError
from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, column

_LEAST = 1e-6
"""A margin below this counts as this: log 0 would end the gradient of its pair."""


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "margin"), paper="ODPO arXiv:2402.10571")
def offset(lp: LogProbs, *, beta: float = 0.1, alpha: float = 1.0, scale: Literal["log", "linear"] = "log") -> Tensor:
    """DPO with an offset: the margin must exceed what the label says about how much better the chosen response is.

    Sums of log-probs: (B,) nats in, (B,) out: -log sigmoid(beta m - alpha f(margin)), equation 8 of the paper, which takes
    f = log. Reads the column `margin` and needs it.

    Args:
        beta: strength of the pull towards the reference.
        alpha: weight of the offset.
        scale: log of the label's margin, as in the paper, or the margin as it is (linear), as reward models have it.
    """
    margin = column(lp.margin, "losses/offset", "margin", "how much better the chosen response is", "dpo")
    if scale == "log":
        if bool((margin < 0).any()):
            raise PrefdataError(f"losses/offset takes the log of the margin and one is {margin.min().item():g}; pass scale=linear.")
        margin = torch.log(margin.clamp(min=_LEAST))
    return -F.logsigmoid(above_zero("beta", beta) * lp.m - above_zero("alpha", alpha) * margin)
