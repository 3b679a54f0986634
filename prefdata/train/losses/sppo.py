"""SPPO, a regression."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, soft_labels


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected", "p"), paper="SPPO arXiv:2405.00675")
def sppo(lp: LogProbs, *, beta: float = 0.001, reduce: Literal["mean", "sum"] = "mean") -> Tensor:
    """Self-play preference optimisation: regress each log-ratio onto its response's win probability.

    Sums of log-probs: (B,) nats in, (B,) out, from (a - (P_w - 1/2) / beta)^2 and (b - (P_l - 1/2) / beta)^2 with
    beta = 1 / eta. P_w is the column `p`, where it is to be used (--use p), and P_l = 1 - p;
    else P_w = 1 (hard labels).

    Args:
        beta: reciprocal of the paper's eta.
        reduce: mean of the two squares, as the authors' code does, or their sum, as TRL's sppo_hard does.
    """
    p, beta = soft_labels(lp), above_zero("beta", beta)
    both = (lp.a - (p - 0.5) / beta) ** 2 + (lp.b - (0.5 - p) / beta) ** 2
    return both / 2 if reduce == "mean" else both
