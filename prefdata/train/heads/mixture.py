"""Types of people, a reward for each."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored


@method(version=1, needs=("annotator",), gives={"outputs": "types"}, paper="MaxMin-RLHF arXiv:2402.08925")
def mixture(rewards: Rewards, membership: Tensor, *, types: int = 2) -> Scored:
    """A reward per type of annotator, the types found by expectation maximisation over who judged what.

    (B, K) rewards in, (B,) nats out: -sum over types of membership x log sigmoid(r_w - r_l). `membership` holds, for the
    pair's annotator, the probability of each type given all of that annotator's pairs; it starts at random and is computed
    anew at the start of every epoch. A type that nobody is left in restarts from whoever is explained worst. Reads the
    column `annotator`. For MaxMin, take the lowest of the K rewards.

    Args:
        types: how many.
    """
    if types < 2:
        raise BadValue("types", types, "a number of at least 2")
    chosen, rejected = rewards.both
    gap = chosen - rejected
    loss = -(membership * F.logsigmoid(gap)).sum(-1)
    return Scored(loss, (membership * gap).sum(-1), (membership * chosen).sum(-1), (membership * rejected).sum(-1))
