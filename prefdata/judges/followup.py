"""Judge: how likely praise is to follow a response, against complaint."""

from __future__ import annotations

import json
from pathlib import Path

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.protocols import Policy
from prefdata.core.rows import Response, Score
from prefdata.core.templates import load, sections

_SIDES = ("positive", "negative")


@method(version=1, subject="response", paper="follow-up likelihood as reward, arXiv:2409.13948", prompt_file="prompts/followup.txt")
async def followup(response: Response, policy: Policy, *, statements: Path | None = None) -> Score:
    """Mean log-likelihood of a person's praise as the next turn minus that of complaint, nats per token.

    A statement's likelihood is the mean over its tokens of log p(token | conversation, response, tokens before it), as the
    user's turn in the model's chat template; what the template writes around it is not counted. The likelihood of each statement
    stands in raw, the two means in scores. A prompt and its response are computed once for all statements.

    Args:
        statements: a file of your own with the parts `### positive` and `### negative`, one statement a line.
    """
    parts = sections(load(__file__, "prompts/followup.txt", statements))
    listed = {side: [line.strip() for line in parts.get(side, "").splitlines() if line.strip()] for side in _SIDES}
    if set(parts) != set(_SIDES) or not all(listed.values()):
        raise BadValue("the parts of the statements file", list(parts), "### positive and ### negative, each with at least one line")
    turns = [*response.prompt.messages, {"role": "assistant", "content": response.text}]
    found = await policy.logps(turns, [text for side in _SIDES for text in listed[side]])
    mean = [one.total / one.tokens for one in found]
    count = len(listed["positive"])
    likelihoods = {"positive": mean[:count], "negative": mean[count:]}
    scores = {side: sum(values) / len(values) for side, values in likelihoods.items()}
    return Score(scores["positive"] - scores["negative"], scores, raw=json.dumps(likelihoods))
