"""Likelihood of the chosen response."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import LogProbs


@method(version=1, gives={"margin": "nats per token"}, paper="supervised fine-tuning; as a term: Iterative RPO arXiv:2404.19733")
def sft(lp: LogProbs, *, reduce: Literal["mean", "sum"] = "mean") -> Tensor:
    """Negative log-likelihood of the chosen response: a run of its own, or a term as in "dpo + 0.2*sft".

    (B,) sums in, (B,) out: -lp_w / n_w, averaged per row and not over the batch's tokens. The rejected response is
    computed for the figures only.

    Args:
        reduce: mean over the response's tokens, or their sum.
    """
    return -lp.chosen / lp.n_chosen if reduce == "mean" else -lp.chosen
