"""Judge: how much likelier a stronger model finds a response than a weaker one does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from prefdata.core.errors import BadValue, UnknownName
from prefdata.core.judging import fields_in, question, read, talk, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Policy
from prefdata.core.rows import Message, Response, Score
from prefdata.core.templates import load, sections

_NONE = "none"


@method(
    version=1,
    subject="response",
    paper="customised density ratio, arXiv:2411.02481",
    prompt_file=("prompts/log_density_ratio.txt", "prompts/log_density_ratio_router.txt", "prompts/common.txt"),
    calls="1",
)
async def log_density_ratio(
    response: Response,
    strong: Policy,
    weak: Policy,
    router: Ask | None = None,
    *,
    domain: str = "chat",
    field: str = "domain",
    criteria: Path | None = None,
    normalise: Literal["sum", "mean"] = "sum",
) -> Score:
    """log p_strong(y | criteria, x) - log p_weak(y | x), nats; of use within one prompt only.

    It needs two models of one family that differ by alignment, such as the tuned model and its base: the wider the gap, the
    better the reward. The criteria are a few sentences with an example, put before the first message of the user for the
    strong model only. They are chosen by domain: what `router` says, else the prompt's meta {"domain": ...}, else `domain`. Both
    sums, both counts and the domain stand in scores.

    Args:
        domain: whose criteria hold where nothing says otherwise: chat, reasoning, safety, one of your own file's, or none for
            the plain ratio.
        field: of the prompt's meta, with the name of a domain; other names than the known ones are passed over.
        criteria: a file of your own, with a part `### name` for each domain.
        normalise: sum is the paper's; mean divides each sum by its number of tokens, which can change which of two responses
            scores higher.
    """
    known = sections(load(__file__, "prompts/log_density_ratio.txt", criteria))
    if domain not in (*known, _NONE):
        raise UnknownName("domain", domain, (*known, _NONE), " of log_density_ratio")
    chosen, said = await _domain(response, router, known, domain, str(response.prompt.meta.get(field) or ""))
    told = response.prompt.messages if chosen == _NONE else _with(response.prompt.messages, known[chosen])
    texts = [response.text]
    (high,), (low,) = await asyncio.gather(strong.logps(told, texts), weak.logps(response.prompt.messages, texts))
    counts = (high.tokens, low.tokens) if normalise == "mean" else (1, 1)
    scores = {
        "logp_strong": high.total, "logp_weak": low.total, "tokens_strong": high.tokens, "tokens_weak": low.tokens, "domain": chosen,
    }  # fmt: skip
    return Score(high.total / counts[0] - low.total / counts[1], scores, raw=json.dumps({**scores, "router": said}))


async def _domain(response: Response, router: Ask | None, known: Mapping[str, str], otherwise: str, in_meta: str) -> tuple[str, str | None]:
    """The domain, and the router's reply."""
    if router is None:
        return (in_meta if in_meta in known else otherwise), None
    asked = question(
        load(__file__, "prompts/log_density_ratio_router.txt"),
        conversation=talk(response.prompt),
        domains=", ".join(known),
        material=words(load(__file__, "prompts/common.txt"), "material"),
    )
    reply = await router(asked, temperature=0.0, max_tokens=64)
    named = str(read(reply, fields_in).get("domain", "")).strip().casefold()
    return (named if named in known else otherwise), reply.text


def _with(messages: tuple[Message, ...], criteria: str) -> list[dict[str, Any]]:
    """The conversation with the criteria before the first words of the user; not every template has a place for a system."""
    out = [dict(message) for message in messages]
    first = next((message for message in out if message["role"] == "user"), None)
    if first is None:
        raise BadValue("the conversation", [message["role"] for message in out], "one with a message of the user")
    content = first["content"]
    first["content"] = f"{criteria}\n\n{content}" if isinstance(content, str) else [{"type": "text", "text": f"{criteria}\n\n"}, *content]
    return out
