"""DPO that knows ties."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, above_zero, at_least_zero
from prefdata.train.ties import rao_kupper


@method(version=2, needs=("ref_logp_chosen", "ref_logp_rejected", "tie"), paper="TODO arXiv:2411.02442")
def todo(lp: LogProbs, *, beta: float = 0.01, alpha: float = 0.5) -> Tensor:
    """Tie-ranked oriented DPO: a win must exceed the width of a tie, and a tie is pulled inside it.

    Sums of log-probs: (B,) nats in, (B,) out. With x = beta m, from the Rao-Kupper model with tie width alpha: won pairs
    -log sigmoid(x - alpha); pairs that the column `tie` marks (--use tie) -log P(tie) with
    P(tie) = (e^2alpha - 1) sigmoid(x - alpha) sigmoid(-x - alpha). The authors' code stores theta = -alpha.

    Args:
        beta: strength of the pull towards the reference.
        alpha: half-width of a tie, in units of beta m; above 0 where there are ties.
    """
    x, alpha = above_zero("beta", beta) * lp.m, at_least_zero("alpha", alpha)
    return -F.logsigmoid(x - alpha) if lp.tie is None else rao_kupper(x, lp.tie, above_zero("alpha", alpha))
