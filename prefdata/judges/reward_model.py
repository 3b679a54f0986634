"""Judge: the score of a reward model."""

from __future__ import annotations

import json

from prefdata.core.method import method
from prefdata.core.protocols import Reward
from prefdata.core.rows import Response, Score


@method(version=1, subject="response", paper="Bradley-Terry reward models; InstructGPT, arXiv:2203.02155")
async def reward_model(response: Response, reward: Reward) -> Score:
    """What a reward model gives a response, in the model's own scale; of use within one prompt only.

    A classifier with one output, in Hugging Face format: a decoder is read at the last token of the conversation as its chat
    template writes it, an encoder gets the prompt and the response as two texts. A text beyond the model's context fails its row
    unless the recipe's model says what to cut (truncation: keep_start or keep_end).
    """
    (value,) = await reward.scores(response.prompt.messages, [response.text])
    return Score(value, raw=json.dumps({"reward": value}))
