"""Strategy: one model, told to do well and told to do badly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefdata.core.drafts import Sheet, candidate, sheet, with_system, with_turns
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.judging import talk, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Message, Prompt, Response

SIDES = ("strong", "weak")
SAMPLES = {"refine": 0, "prefix": 1, "demonstration": 2, "elicitive": 3}
"""Tells equal texts of different contrasts apart."""
_QUESTION = re.compile(r"demonstration_\d+")


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/contrast_prompts.txt",
    calls="2 * len(contrasts) + (2 if 'elicitive' in contrasts else 0)",
    paper="prompt and pipeline level contrasts of PopAlign, arXiv:2410.13785",
)
async def contrast_prompts(
    prompt: Prompt,
    ask: Ask,
    *,
    contrasts: tuple[Literal["prefix", "demonstration", "elicitive", "refine"], ...] = (
        "prefix",
        "demonstration",
        "elicitive",
        "refine",
    ),
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """For each contrast two answers of one model, roles strong and weak, joined in a set by the contrast's name.

    prefix: a system message that asks for a good or a careless answer. demonstration: good or poor examples as earlier turns.
    elicitive: the model first writes down what an excellent or a poor answer is like, then follows that. refine: a draft
    (weak) and the model's own second version of it (strong). A contrast whose two answers are empty or equal is left out.
    The plain answer to the prompt is the draft of refine and nothing else.

    Args:
        contrasts: which of them.
        temperature: of every answer and note; null where the model takes none.
        max_tokens: longest answer, and longest note, in tokens.
        template: a prompt file of your own in place of contrast_prompts.txt.
    """
    if not contrasts or len(set(contrasts)) < len(contrasts):
        raise BadValue("contrasts", list(contrasts), "some of prefix, demonstration, elicitive and refine, each once")
    text = sheet(__file__, "contrast_prompts.txt", template)
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    makers = {"prefix": _prefix, "demonstration": _demonstration, "elicitive": _elicitive, "refine": _refine}
    pairs = await together([makers[contrast](prompt, ask, text, sampling) for contrast in contrasts])
    kept = [pair for pair in pairs if all(one.text.strip() for one in pair) and pair[0].text.strip() != pair[1].text.strip()]
    if not kept:
        return Abstained("no contrast gave two answers that differ")
    return [response for pair in kept for response in pair]


async def _both(
    prompt: Prompt, ask: Ask, contrast: str, sent: Sequence[Sequence[Message]], params: Sequence[dict[str, Any]], sampling: dict[str, Any]
) -> tuple[Response, ...]:
    """The strong and the weak answer to two requests."""
    replies = await together([ask(messages, **sampling) for messages in sent])
    made = zip(replies, SIDES, params, strict=True)
    return tuple(
        candidate(prompt, reply, side, params={**sampling, "set": contrast, "contrast": contrast, **more}, sample=SAMPLES[contrast])
        for reply, side, more in made
    )


async def _prefix(prompt: Prompt, ask: Ask, text: Sheet, sampling: dict[str, Any]) -> tuple[Response, ...]:
    names = _needed(text, "prefix_strong", "prefix_weak")
    sent = [with_system(prompt.messages, text.said(name)) for name in names]
    return await _both(prompt, ask, "prefix", sent, [{"template": text.ref(name)} for name in names], sampling)


async def _demonstration(prompt: Prompt, ask: Ask, text: Sheet, sampling: dict[str, Any]) -> tuple[Response, ...]:
    questions = [name for name in text.parts if _QUESTION.fullmatch(name)]
    _needed(text, *(questions or ["demonstration_1"]), *(f"{question}_{side}" for question in questions for side in SIDES))
    head = 1 if prompt.messages[0]["role"] in ("system", "developer") else 0
    sent = []
    for side in SIDES:
        shown: list[Message] = []
        for question in questions:
            shown.append({"role": "user", "content": text.parts[question]})
            shown.append({"role": "assistant", "content": text.parts[f"{question}_{side}"]})
        sent.append((*prompt.messages[:head], *shown, *prompt.messages[head:]))
    params = [{"template": text.ref(f"demonstration_*_{side}")} for side in SIDES]
    return await _both(prompt, ask, "demonstration", sent, params, sampling)


async def _elicitive(prompt: Prompt, ask: Ask, text: Sheet, sampling: dict[str, Any]) -> tuple[Response, ...]:
    _needed(text, *(f"{step}_{side}" for step in ("elicit", "follow") for side in SIDES))
    asked = [({"role": "user", "content": text.said(f"elicit_{side}", conversation=talk(prompt))},) for side in SIDES]
    notes = [reply.text.strip() for reply in await together([ask(messages, **sampling) for messages in asked])]
    sent = [with_system(prompt.messages, text.said(f"follow_{side}", notes=note)) for side, note in zip(SIDES, notes, strict=True)]
    params = [{"template": text.ref(f"follow_{side}"), "notes": note} for side, note in zip(SIDES, notes, strict=True)]
    return await _both(prompt, ask, "elicitive", sent, params, sampling)


async def _refine(prompt: Prompt, ask: Ask, text: Sheet, sampling: dict[str, Any]) -> tuple[Response, ...]:
    _needed(text, "refine")
    shared = {**sampling, "set": "refine", "contrast": "refine"}
    draft = candidate(prompt, await ask(prompt.messages, **sampling), "weak", params=shared)
    if not draft.text.strip():
        return (draft, draft)
    reply = await ask(with_turns(prompt.messages, draft.text, text.said("refine")), **sampling)
    return candidate(prompt, reply, "strong", params={**shared, "template": text.ref("refine")}, parents=[draft]), draft


def _needed(text: Sheet, *names: str) -> tuple[str, ...]:
    missing = [name for name in names if name not in text.parts]
    if missing:
        raise PrefdataError(
            f"the prompt file {text.name!r} has no part '### {missing[0]}'; copy contrast_prompts.txt and change the words in it."
        )
    return names
