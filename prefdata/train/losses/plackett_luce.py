"""DPO on ranked lists."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import Ranked, above_zero


@method(version=1, needs=("ref_logps",), paper="DPO arXiv:2305.18290, appendix A.3 (Plackett-Luce)")
def plackett_luce(ranked: Ranked, *, beta: float = 0.1) -> Tensor:
    """DPO on ranked lists of any length: the likelihood of the whole ranking under the Plackett-Luce model.

    Sums of log-probs: (B, K) nats in, (B,) out: sum over k of log(e^s_k + sum over j worse than k of e^s_j) - s_k with
    s = beta x log-ratio. For two responses it is DPO. Responses of equal score are not compared with one another.

    Args:
        beta: strength of the pull towards the reference.
    """
    s = above_zero("beta", beta) * ranked.ratios
    itself = torch.eye(s.shape[1], dtype=torch.bool, device=s.device)[None]
    field = s[:, None, :].masked_fill(~(ranked.better | itself), -torch.inf)
    each = torch.logsumexp(field, dim=-1) - s
    return each.where(ranked.there, 0.0).sum(-1)
