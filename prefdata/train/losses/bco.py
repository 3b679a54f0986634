"""BCO, for unpaired responses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import Unpaired, above_zero


@method(version=1, needs=("ref_logp",), paper="BCO arXiv:2404.04656")
def bco(unpaired: Unpaired, shift: Tensor, *, beta: float = 0.1) -> Tensor:
    """Binary classifier optimisation: tell good single responses from bad ones by the implicit reward.

    Sums of log-probs: (B,) nats in, (B,) out: -log sigmoid(r - shift) for good ones, -log sigmoid(shift - r) for bad ones,
    r = beta x log-ratio, shift the mean of the good and the bad rewards' running means over the batches so far. The
    paper's weights against a shift between the two sets of prompts are not among it; give them in the column `weight`.

    Args:
        beta: strength of the pull towards the reference.
    """
    r = above_zero("beta", beta) * unpaired.ratio - shift
    return -F.logsigmoid(torch.where(unpaired.good > 0, r, -r))
