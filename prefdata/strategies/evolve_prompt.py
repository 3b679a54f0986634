"""Strategy: make prompts harder and more varied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefdata.core.drafts import Sheet, candidate, derived, drawn, last_text, made_by, parts, sheet, with_last
from prefdata.core.errors import BadValue
from prefdata.core.judging import read, talk, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence

NAME = "evolve_prompt"
_LEAKS = ("new message", "rewritten message", "given message", "original message", "new_message", "given request", "rewritten request")
"""Words of the instructions that have no place in a message of a user."""


@method(
    version=1, subject="prompt", prompt_file="prompts/evolve_prompt.txt", calls="rounds * (1 + n)", paper="Evol-Instruct, arXiv:2304.12244"
)
async def evolve_prompt(
    prompt: Prompt,
    ask: Ask,
    seed: int,
    writer: Ask | None = None,
    *,
    rounds: int = 1,
    n: int = 1,
    operations: tuple[Literal["constrain", "deepen", "concretise", "reason", "input", "widen"], ...] = (
        "constrain",
        "deepen",
        "concretise",
        "reason",
        "input",
        "widen",
    ),
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """New prompts that grow out of each stored one, round by round, each with n answers (role sample).

    In each round `writer` (or `ask`) rewrites the last message by an operation drawn from the seed. A line ends where nothing new came
    out: a message that was there before, or one that speaks of being rewritten. Steps after this one see the new prompts like
    all others. Prompts that this strategy made are left alone.

    Args:
        rounds: rewritings of rewritings, from 1.
        n: answers to each new prompt.
        operations: constrain, deepen, concretise, reason (more steps) and input (comes with data) make it harder; widen makes another
            one from the same field.
        temperature: of every call; null where a model takes none.
        max_tokens: longest message or answer, in tokens.
        template: a prompt file of your own in place of evolve_prompt.txt: the parts system, user and those of the operations.
    """
    if rounds < 1 or n < 1 or not operations:
        raise BadValue("rounds, n and operations", (rounds, n, list(operations)), "rounds and n from 1, and at least one operation")
    message = last_text(prompt)
    if message is None or made_by(prompt, NAME):
        return Abstained("the last message is not plain text" if message is None else f"{NAME} made this prompt")
    text = sheet(__file__, "evolve_prompt.txt", template, "system", "user", *operations)
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    line = [prompt]
    seen, ended = [message], ""
    draw = drawn(seed, prompt, NAME)
    for number in range(1, rounds + 1):
        operation = draw.choice(operations)
        new = await _rewritten(line[-1], seen[-1], operation, writer or ask, text, sampling)
        ended = _nothing_new(new, seen)
        if ended:
            break
        seen.append(new)
        line.append(derived(prompt, with_last(prompt.messages, new), NAME, operation=operation, round=number, template=text.ref(operation)))
    if len(line) == 1:
        return Abstained(ended)
    asked = [(one, i) for one in line[1:] for i in range(n)]
    replies = await together([ask(one.messages, sample=i, **sampling) for one, i in asked])
    made = [
        candidate(one, reply, "sample", params={**sampling, "operation": one.meta["operation"], "round": one.meta["round"]}, sample=i)
        for (one, i), reply in zip(asked, replies, strict=True)
        if reply.text.strip()
    ]
    return made or Abstained("every answer came back empty")


async def _rewritten(prompt: Prompt, message: str, operation: str, writer: Ask, text: Sheet, sampling: dict[str, Any]) -> str:
    request = fence(message, "request")
    asked = text.asks("user", conversation=talk(prompt), request=request, operation=text.parts[operation])
    return read(await writer(asked, **sampling), lambda said: parts(said, "new_message"))["new_message"]


def _nothing_new(new: str, seen: list[str]) -> str:
    """Why a rewritten message does not count; empty where it does."""
    plain = [" ".join(one.casefold().split()) for one in (new, *seen)]
    if plain[0] in plain[1:]:
        return "the rewritten message is the same as before"
    if any(leak in plain[0] and leak not in plain[1] for leak in _LEAKS):
        return "the rewritten message speaks of being rewritten"
    if not any(letter.isalnum() for letter in new):
        return "the rewritten message has no words"
    return ""
