"""DPO with token weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import PrefdataError
from prefdata.core.method import method
from prefdata.train.inputs import LogProbs, Tokens, above_zero, at_least_zero


@method(
    version=1,
    needs=("ref_logp_chosen", "ref_logp_rejected", "chosen_spans", "rejected_spans"),
    paper="sparse token weights: SparsePO arXiv:2410.05102, FIGA arXiv:2311.04072",
)
def token_weights(lp: LogProbs, tokens: Tokens, *, beta: float = 0.1, rest: float = 0.0) -> Tensor:
    """DPO on weighted tokens: only the marked spans of the two responses carry the preference.

    (B, T) log-probs per token in, summed here with their weights, in the policy and in the reference; (B,) out:
    -log sigmoid(beta m). The columns `chosen_spans` and `rejected_spans` list {start, end, weight} in characters of the
    response; a token that overlaps a span has its weight (the last one's, where spans overlap).

    Args:
        beta: strength of the pull towards the reference.
        rest: weight of tokens outside the spans, the end-of-turn token among them.
    """
    if tokens.weight_chosen is None or tokens.weight_rejected is None:
        raise PrefdataError("losses/token_weights reads the columns chosen_spans and rejected_spans and the export has none; train dpo.")
    low = at_least_zero("rest", rest)
    a = (tokens.a * tokens.weight_chosen.nan_to_num(nan=low)).sum(-1)
    b = (tokens.b * tokens.weight_rejected.nan_to_num(nan=low)).sum(-1)
    return -F.logsigmoid(above_zero("beta", beta) * (a - b))
