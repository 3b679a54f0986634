"""PRO: ranked lists without a reference."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import Ranked, at_least_zero


@method(version=1, gives={"margin": "nats per token"}, paper="PRO arXiv:2306.17492")
def pro(ranked: Ranked, *, sft: float = 0.05) -> Tensor:
    """Preference ranking optimisation: each response against all worse ones, the sharper the further apart their scores are.

    (B, K) sums in, MEANS per token s inside, (B,) out: sum over k of log(e^(s_k T_k) + sum over j worse than k of
    e^(s_j (r_k - r_j))) - s_k T_k with scores r and T_k = max_j (r_k - r_j), plus sft (K - 1)^2 times the SUMMED negative
    log-likelihood of the best response, as the authors' code has it. Without scores r counts down from K - 1.

    Args:
        sft: weight of the best response's likelihood.
    """
    s = ranked.logps / ranked.n.clamp(min=1)
    better = ranked.better
    gaps = ranked.scores[:, :, None] - ranked.scores[:, None, :]
    widest = gaps.masked_fill(~better, 0.0).amax(-1)
    own = s * widest
    others = (s[:, None, :] * gaps).masked_fill(~better, -torch.inf)
    each = torch.logsumexp(torch.cat([own[:, :, None], others], dim=-1), dim=-1) - own
    rivals = (ranked.there.sum(-1) - 1).to(s)
    return each.where(better.any(-1), 0.0).sum(-1) - at_least_zero("sft", sft) * rivals**2 * ranked.logps[:, 0]
