"""KTO, for unpaired responses."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import Unpaired, above_zero, at_least_zero


@method(version=1, needs=("ref_logp",), paper="KTO arXiv:2402.01306")
def kto(unpaired: Unpaired, kl: Tensor, *, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0) -> Tensor:
    """Kahneman-Tversky optimisation: single responses, good or bad, each against the policy's drift from the reference.

    Sums of log-probs: (B,) nats in, (B,) out: good ones w_D (1 - sigmoid(beta (u - z))), bad ones
    w_U (1 - sigmoid(beta (z - u))), u the log-ratio and z = max(0, kl), with kl the mean log-ratio of mismatched responses
    over the whole batch, without gradient. Pairs are taken apart into one good and one bad row each.

    Args:
        beta: strength of the pull towards the reference.
        desirable: weight of good responses.
        undesirable: weight of bad ones; the paper wants (desirable x good rows) / (undesirable x bad rows) in [1, 4/3].
    """
    u, z = unpaired.ratio, kl.clamp(min=0)
    beta = above_zero("beta", beta)
    gain = at_least_zero("desirable", desirable) * (1 - torch.sigmoid(beta * (u - z)))
    loss = at_least_zero("undesirable", undesirable) * (1 - torch.sigmoid(beta * (z - u)))
    return torch.where(unpaired.good > 0, gain, loss)
