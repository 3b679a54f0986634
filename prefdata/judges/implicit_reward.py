"""Judge: the reward that a tuned policy implies against its reference."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.protocols import Policy
from prefdata.core.rows import Response, Score


@method(version=1, subject="response", paper="DPO, arXiv:2305.18290; self-labelling by it: SPA, arXiv:2406.04412")
async def implicit_reward(
    response: Response, policy: Policy, reference: Policy, *, beta: float = 0.1, normalise: Literal["sum", "mean"] = "sum"
) -> Score:
    """beta (log pi(y | x) - log ref(y | x)), nats; of use within one prompt only, where the unknown constant of DPO cancels.

    log-probabilities are sums over the response's tokens, its end of turn included; both sums and both counts stand in scores.

    Args:
        beta: of the DPO training that made the policy; it scales all rewards alike.
        normalise: mean divides each log-probability by its number of tokens, which takes the length out and can change which
            of two responses has the higher reward.
    """
    if not beta > 0:
        raise BadValue("implicit_reward: beta", beta, "a number above 0")
    messages, texts = response.prompt.messages, [response.text]
    (own,), (other,) = await asyncio.gather(policy.logps(messages, texts), reference.logps(messages, texts))
    counts = (own.tokens, other.tokens) if normalise == "mean" else (1, 1)
    scores = {
        "logp_policy": own.total, "logp_reference": other.total, "tokens_policy": own.tokens, "tokens_reference": other.tokens,
    }  # fmt: skip
    return Score(beta * (own.total / counts[0] - other.total / counts[1]), scores, raw=json.dumps(scores))
