"""Personal rewards from few shared ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored


@method(version=1, needs=("annotator",), gives={"outputs": "bases"}, paper="LoRe arXiv:2504.14439")
def lore(rewards: Rewards, taste: Tensor, *, bases: int = 4) -> Scored:
    """Low-rank personal rewards: everybody's reward is a mixture of a few shared ones, in weights of their own.

    (B, K) rewards in, (B,) nats out: -log sigmoid(w_u . (r_w - r_l)), w_u = softmax of the annotator's logits, learnt with
    the bases (learning rate 0.01, as the authors have it). Reads the column `annotator`. An annotator who was never seen
    gets the mean weights; with a few of their pairs `prefdata.train.memory.fit_taste` finds their own, the bases held.

    Args:
        bases: shared rewards.
    """
    if bases < 2:
        raise BadValue("bases", bases, "a number of at least 2")
    chosen, rejected = rewards.both
    margin = (taste * (chosen - rejected)).sum(-1)
    return Scored(-F.logsigmoid(margin), margin, (taste * chosen).sum(-1), (taste * rejected).sum(-1))
