"""DPO under other divergences."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero

_MOST = 80.0
"""e^80 is still a float32."""


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="f-DPO arXiv:2309.16240")
def f_dpo(
    lp: LogProbs, *, beta: float = 0.1, divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "js", alpha: float = 0.5
) -> Tensor:
    """DPO with another f-divergence between policy and reference in place of the reverse KL.

    Sums of log-probs: (B,) nats in, (B,) out: -log sigmoid(beta (g(a) - g(b))) with g the derivative of f, up to a
    constant: reverse KL u (which is DPO), forward KL -e^-u, Jensen-Shannon log sigmoid(u), alpha e^((alpha - 1) u) / (alpha - 1).
    Exponents are held at 80, where a float32 ends.

    Args:
        beta: strength of the pull towards the reference.
        divergence: which one.
        alpha: of the alpha-divergence, above 0 and below 1: towards 1 it is the reverse KL, towards 0 the forward KL.
    """
    if not 0 < alpha < 1:
        raise BadValue("alpha", alpha, "a number above 0 and below 1 (at 1 it is reverse_kl, at 0 forward_kl)")

    def g(u: Tensor) -> Tensor:
        if divergence == "forward_kl":
            return -torch.exp((-u).clamp(max=_MOST))
        if divergence == "js":
            return F.logsigmoid(u)
        if divergence == "alpha":
            return torch.exp(((alpha - 1) * u).clamp(max=_MOST)) / (alpha - 1)
        return u

    return -F.logsigmoid(above_zero("beta", beta) * (g(lp.a) - g(lp.b)))
