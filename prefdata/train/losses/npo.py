"""NPO: unlearning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import Unpaired, above_zero, at_least_zero


@method(version=1, needs=("ref_logp",), paper="NPO arXiv:2404.05868")
def npo(unpaired: Unpaired, *, beta: float = 0.1, retain: float = 1.0) -> Tensor:
    """Negative preference optimisation: forget the bad responses, and keep the likelihood of the good ones.

    Sums of log-probs in the contrast, the MEAN per token in the likelihood: (B,) nats in, (B,) out: bad ones
    -(2 / beta) log sigmoid(-beta u) with u the log-ratio, equation 3 of the paper; good ones -retain lp / n. Pairs are
    taken apart into one good and one bad row each.

    Args:
        beta: towards 0 it is gradient ascent; larger values stop sooner.
        retain: weight of the good responses' likelihood.
    """
    beta = above_zero("beta", beta)
    forget = -2 / beta * F.logsigmoid(-beta * unpaired.ratio)
    return torch.where(unpaired.good > 0, -at_least_zero("retain", retain) * unpaired.logp / unpaired.n, forget)
