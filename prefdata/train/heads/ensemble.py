"""Several reward heads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored


@method(version=1, needs=("p",), gives={"outputs": "members"}, paper="reward model ensembles arXiv:2310.02743; bootstrap, Efron 1979")
def ensemble(rewards: Rewards, draws: Tensor, *, members: int = 5) -> Scored:
    """Several Bradley-Terry heads, each on its own bootstrap sample of the pairs; where they differ, the reward is uncertain.

    (B, M) rewards in, (B,) nats out: the mean over members of draws x -log sigmoid(r_w - r_l), with `draws` how often the
    member's sample holds the pair (Poisson(1), from the pair's id and the seed; 1 on held-out pairs). The reward is the
    members' mean; their standard deviation says how far to trust it. `p` makes the label soft.

    Args:
        members: heads; they share the model below.
    """
    if members < 2:
        raise BadValue("members", members, "a number of at least 2")
    chosen, rejected = rewards.both
    gap = chosen - rejected
    p = 1.0 if rewards.p is None else rewards.p[:, None]
    each = -p * F.logsigmoid(gap) - (1 - p) * F.logsigmoid(-gap)
    return Scored((draws * each).mean(-1), gap.mean(-1), chosen.mean(-1), rejected.mean(-1))
