"""General preferences, cycles included."""

from __future__ import annotations

import torch.nn.functional as F

from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored, above_zero


@method(version=1, needs=("margin", "p"), gives={"outputs": "dimension"}, paper="GPM arXiv:2410.02197")
def general_preference(rewards: Rewards, *, dimension: int = 6, tau: float = 0.1) -> Scored:
    """General preference model: a vector per response; who beats whom need not be a ranking.

    (B, 2k) vectors in, (B,) nats out: -log sigmoid((s - margin) / tau) with s = sum over planes of
    v_w[2b] v_l[2b+1] - v_w[2b+1] v_l[2b], which changes sign when the two are exchanged; a beats b beats c beats a is
    possible, at one number per response less than one per pair. `p` makes the label soft. There is no reward of a single
    response. Planes are not weighted by the prompt.

    Args:
        dimension: length of the vector, even.
        tau: temperature.
    """
    if dimension < 2 or dimension % 2:
        raise BadValue("dimension", dimension, "an even number of at least 2")
    w, r = rewards.both
    s = (w[:, 0::2] * r[:, 1::2] - w[:, 1::2] * r[:, 0::2]).sum(-1)
    if rewards.p is not None and rewards.margin is not None:
        raise PrefdataError("heads/general_preference reads margin or p, not both at once; pass one of them with use.")
    x = (s if rewards.margin is None else s - rewards.margin) / above_zero("tau", tau)
    loss = -F.logsigmoid(x) if rewards.p is None else -rewards.p * F.logsigmoid(x) - (1 - rewards.p) * F.logsigmoid(-x)
    return Scored(loss, s / tau)
