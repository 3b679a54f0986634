"""IPO, the squared loss."""

from __future__ import annotations

from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), gives={"margin": "nats per token"}, paper="IPO arXiv:2310.12036")
def ipo(lp: LogProbs, *, beta: float = 0.1, summed: bool = False) -> Tensor:
    """Identity preference optimisation: squared distance of the log-ratio margin from 1 / (2 beta).

    (B,) nats in, (B,) out; equation 17 of the paper. The two readings in use differ by far: the paper's formula has SUMS
    over tokens (`summed`), the authors later told TRL to take the MEAN over each response's tokens, which is the default.

    Args:
        beta: the paper's tau; the target margin is 1 / (2 beta) nats.
        summed: take sums of log-probs instead of means per token.
    """
    margin = lp.m if summed else lp.a / lp.n_chosen - lp.b / lp.n_rejected
    return (margin - 1 / (2 * above_zero("beta", beta))) ** 2
