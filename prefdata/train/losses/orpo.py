"""ORPO, reference-free."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero


@method(version=1, gives={"margin": "nats per token"}, paper="ORPO arXiv:2403.07691")
def orpo(lp: LogProbs, *, lam: float = 0.1) -> Tensor:
    """Odds-ratio preference optimisation: likelihood of the chosen response plus a log-odds contrast; no reference.

    (B,) sums in, MEANS per token inside, (B,) out: -lp_w / n_w - lam log sigmoid(log odds_w - log odds_l) with
    odds = P / (1 - P) and P = exp(mean log-prob), equations 6 and 7 of the paper.

    Args:
        lam: weight of the odds-ratio term.
    """
    chosen, rejected = lp.chosen / lp.n_chosen, lp.rejected / lp.n_rejected
    log_odds = (chosen - _log1mexp(chosen)) - (rejected - _log1mexp(rejected))
    return -chosen - above_zero("lam", lam) * F.logsigmoid(log_odds)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0; a response the model is sure of (x = 0) is held just below, where the odds are finite."""
    return torch.log(-torch.expm1(x.clamp(max=-1e-12)))
