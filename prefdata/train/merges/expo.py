"""ExPO: model extrapolation."""

from __future__ import annotations

from torch import Tensor

from prefdata.core.method import method
from prefdata.train.inputs import above_zero


@method(version=1, paper="ExPO arXiv:2404.16792")
def expo(sft: Tensor, tuned: Tensor, *, alpha: float = 0.3) -> Tensor:
    """Extrapolate: go on from a preference-tuned model in the direction in which it left its starting point.

    tuned + alpha (tuned - sft), weight by weight; any shape in, the same out. No training; choose alpha by held-out rewards.

    Args:
        alpha: how far beyond the tuned model, in steps of what tuning changed; 0.3 and 0.5 are common.
    """
    return tuned + above_zero("alpha", alpha) * (tuned - sft)
