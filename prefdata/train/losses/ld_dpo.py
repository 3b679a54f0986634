"""DPO without what length adds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, Tokens, above_zero, share


@method(version=1, needs=("ref_logp_chosen", "ref_logp_rejected"), paper="LD-DPO arXiv:2409.06411")
def ld_dpo(lp: LogProbs, tokens: Tokens, *, beta: float = 0.1, alpha: float = 0.5) -> Tensor:
    """Length-desensitised DPO: tokens beyond the shorter response's length count for less.

    (B, T) log-probs per token in, summed here with weight 1 up to k = min(n_w, n_l) and alpha beyond, in the policy and in
    the reference; (B,) out: -log sigmoid(beta m). alpha 1 is DPO, alpha 0 cuts both responses at the shorter one.

    Args:
        beta: strength of the pull towards the reference.
        alpha: weight of the longer response's tail.
    """
    k = torch.minimum(lp.n_chosen, lp.n_rejected)[:, None]

    def total(ratios: Tensor) -> Tensor:
        tail = torch.arange(ratios.shape[1], device=ratios.device)[None] >= k
        return torch.where(tail, share("alpha", alpha) * ratios, ratios).sum(-1)

    return -F.logsigmoid(above_zero("beta", beta) * (total(tokens.a) - total(tokens.b)))
