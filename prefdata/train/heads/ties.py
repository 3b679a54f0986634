"""A reward model that knows ties."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.train.inputs import Rewards, Scored, above_zero, column
from prefdata.train.ties import rao_kupper


@method(version=1, needs=("tie",), paper="Rao-Kupper 1967; reward modelling with ties arXiv:2410.05328")
def ties(rewards: Rewards, *, width: float = 0.5) -> Scored:
    """Scalar reward learnt from wins and ties: two responses judged equal are pulled to equal rewards.

    (B,) rewards in, (B,) nats out. With x = r_w - r_l, won pairs -log sigmoid(x - width), tied ones -log P(tie) with
    P(tie) = (e^(2 width) - 1) sigmoid(x - width) sigmoid(-x - width). Reads the column `tie` and needs it.

    Args:
        width: half-width of a tie, in logits: two equal rewards tie with probability tanh(width / 2).
    """
    tie = column(rewards.tie, "heads/ties", "tie", "true where the two responses are equally good", "reward")
    chosen, rejected = rewards.both
    gap = chosen - rejected
    return Scored(rao_kupper(gap, tie, above_zero("width", width)), gap, chosen, rejected)
