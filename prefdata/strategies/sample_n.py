"""Strategy: several draws of one model."""

from __future__ import annotations

import asyncio

from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Prompt, Response


@method(version=1, subject="prompt", paper="best-of-n sampling; UltraFeedback, arXiv:2310.01377, uses it over a pool of models")
async def sample_n(
    prompt: Prompt, ask: Ask, *, n: int = 4, temperature: float = 0.9, top_p: float = 1.0, max_tokens: int = 512
) -> list[Response]:
    """n answers to each prompt, drawn independently; an answer that came back empty is left out.

    Args:
        n: draws per prompt; raising it later draws only the new ones, the others come from the call cache.
        temperature: of the sampling; 0 gives n equal answers.
        top_p: nucleus of the sampling, 0 to 1.
        max_tokens: longest answer, in tokens; one that was cut is marked finish = length.
    """
    sampling = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    replies = await asyncio.gather(*(ask(prompt.messages, sample=i, **sampling) for i in range(n)))
    return [
        Response(
            prompt,
            reply.text,
            reply.model,
            sample=i,
            role="sample",
            params=sampling,
            finish=reply.finish,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
        )
        for i, reply in enumerate(replies)
        if reply.text.strip()
    ]
