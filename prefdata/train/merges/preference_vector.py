"""Preference vectors."""

from __future__ import annotations

from torch import Tensor

from prefdata.core.method import method


@method(version=1, paper="Adaptive Helpfulness-Harmlessness Alignment with Preference Vectors (2025)")
def preference_vector(base: Tensor, tuned: Tensor, swapped: Tensor, *, eta: float = 1.0) -> Tensor:
    """Add a preference as a direction: what tuning on the labels changed, minus what tuning on swapped labels changed.

    base + eta (tuned - swapped), weight by weight; any shape in, the same out. What both runs learn about the texts alike
    cancels. Several preferences are added one after the other, the last result as the next base.

    Args:
        eta: strength; below 0 the preference is avoided.
    """
    return base + eta * (tuned - swapped)
