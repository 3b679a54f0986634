"""Strategy: one sentence of feedback, followed where it applies and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdata.core.drafts import Sheet, candidate, derived, drawn, json_list, made_by, parts, sheet, with_turns
from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import read, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Reply
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import conversation, fence

NAME = "verbal_feedback"


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/verbal_feedback.txt",
    calls="5",
    paper="C3PO of RLVF, arXiv:2402.10893",
)
async def verbal_feedback(
    prompt: Prompt,
    ask: Ask,
    seed: int,
    writer: Ask | None = None,
    *,
    feedback: str,
    categories: int = 30,
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """For each stored prompt a new one to which the feedback applies, and one to which it only seems to; answers to all three.

    The stored prompts are the general ones, so that there are as many of each scope. Where the feedback applies (scope
    in), `ask` answers (role baseline) and writes again following the feedback (role revised). Where it does not (scope near, or
    out for the stored prompt), there is the baseline alone, with the role keep: what training should leave as it is. A stored prompt to
    which the feedback happens to apply is treated as in scope. Prompts that this strategy made are left alone.

    `writer` names kinds of requests (once, all rows share them) and writes the new prompts; without one, `ask` does.

    Args:
        feedback: what a user said, such as "Do not use emojis in mails to my boss."
        categories: kinds of requests to draw from for the new prompts.
        temperature: of every call; null where a model takes none.
        max_tokens: longest reply, in tokens.
        template: a prompt file of your own in place of verbal_feedback.txt, with the parts system, categories, prompts and revise.
    """
    if not feedback.strip() or categories < 1:
        raise BadValue("feedback and categories", (feedback, categories), "a sentence, and a number from 1")
    if made_by(prompt, NAME):
        return Abstained(f"{NAME} made this prompt")
    text = sheet(__file__, "verbal_feedback.txt", template, "system", "categories", "prompts", "revise")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    said = fence(feedback, "feedback")
    kinds = read(await (writer or ask)(text.asks("categories", feedback=said, n=categories), **sampling), _categories)
    category = drawn(seed, prompt, NAME).choice(kinds)
    request = fence(conversation(prompt.messages), "request")
    asked = text.asks("prompts", feedback=said, category=fence(category, "category"), request=request)
    found = read(await (writer or ask)(asked, **sampling), _prompts)
    scopes = [(prompt, "in" if found["applies"] == "yes" else "out")]
    for scope in ("in", "near"):
        messages = ({"role": "user", "content": found[f"{scope}_scope"]},)
        scopes.append((derived(prompt, messages, NAME, scope=scope, feedback=feedback, category=category), scope))
    params = {**sampling, "feedback": feedback, "category": category, "template": text.ref("revise")}
    made = await together([_answers(one, scope, ask, text, said, params, sampling) for one, scope in scopes])
    kept = [response for responses in made for response in responses]
    return kept or Abstained("every answer came back empty")


async def _answers(
    prompt: Prompt, scope: str, ask: Ask, text: Sheet, feedback: str, params: dict[str, Any], sampling: dict[str, Any]
) -> list[Response]:
    """The answer as it is, and in scope the one that follows the feedback."""
    plain = {name: value for name, value in params.items() if name != "template"} | {"scope": scope}
    first = await ask(prompt.messages, **sampling)
    if not first.text.strip():
        return []
    if scope != "in":
        return [candidate(prompt, first, "keep", params=plain)]
    baseline = candidate(prompt, first, "baseline", params=plain)
    reply: Reply = await ask(with_turns(prompt.messages, first.text, text.said("revise", feedback=feedback)), **sampling)
    if reply.text.strip() in ("", first.text.strip()):
        return []
    return [baseline, candidate(prompt, reply, "revised", params={**params, "scope": scope}, parents=[baseline])]


def _categories(text: str) -> list[str]:
    kinds = [kind.strip() for kind in json_list(text, "categories") if isinstance(kind, str) and kind.strip()]
    if not kinds:
        raise Unreadable("the reply lists no categories", text)
    return list(dict.fromkeys(kinds))


def _prompts(text: str) -> dict[str, str]:
    found = parts(text, "applies", "in_scope", "near_scope")
    applies = found["applies"].strip(" .*_`'\"").casefold()
    if applies not in ("yes", "no"):
        raise Unreadable(f"whether the feedback applies is {found['applies']!r}, neither yes nor no", text)
    if found["in_scope"] == found["near_scope"]:
        raise Unreadable("the request in scope and the one that only seems so are the same", text)
    return {**found, "applies": applies}
