"""Strategy: a reviewer criticises, the author writes again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from prefdata.core.drafts import candidate, parts, sheet, with_turns
from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import read, talk
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/critique_revise.txt",
    calls="1 + 2 * rounds",
    paper="LLM feedback loop of The Fellowship of the LLMs, arXiv:2408.08688",
)
async def critique_revise(
    prompt: Prompt,
    ask: Ask,
    critic: Ask | None = None,
    *,
    rounds: int = 1,
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """A draft (role draft), and after each review the author's new version; the last one has the role revised, others revision.

    `critic` reviews what `ask` writes; without a critic the author reviews itself. Rounds end early where the reviewer is
    content. Every version names all earlier ones as its parents, and keeps the review it answers. Abstains where the
    reviewer was content with the draft.

    Args:
        rounds: reviews at most, from 1.
        temperature: of author and critic; null where one takes none.
        max_tokens: longest answer, and longest review, in tokens.
        template: a prompt file of your own in place of critique_revise.txt, with the parts system, review and revise.
    """
    if rounds < 1:
        raise BadValue("rounds", rounds, "a number from 1")
    text = sheet(__file__, "critique_revise.txt", template, "system", "review", "revise")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    draft = candidate(prompt, await ask(prompt.messages, **sampling), "draft", params=sampling)
    if not draft.text.strip():
        return Abstained("the draft came back empty")
    versions = [draft]
    for number in range(1, rounds + 1):
        newest = versions[-1].text
        review = await (critic or ask)(text.asks("review", conversation=talk(prompt), answer=fence(newest, "answer")), **sampling)
        critique = read(review, _critique)
        if critique is None:
            break
        turn = text.said("revise", critique=fence(critique, "review"))
        reply = await ask(with_turns(prompt.messages, newest, turn), **sampling)
        if reply.text.strip() in ("", newest.strip()):
            break
        params = {**sampling, "template": text.ref("revise"), "critique": critique, "critic": review.model, "round": number}
        versions.append(candidate(prompt, reply, "revision", params=params, sample=number, parents=versions))
    if len(versions) == 1:
        return Abstained("the draft stayed as it was: the reviewer was content, or the author changed nothing")
    return [*versions[:-1], replace(versions[-1], role="revised")]


def _critique(text: str) -> str | None:
    """What a review says, or None where it lets the answer stand."""
    found = parts(text, "critique", "verdict", may_be_empty=["critique"])
    verdict = found["verdict"].strip(" .*_`'\"").casefold()
    if verdict not in ("revise", "keep"):
        raise Unreadable(f"the verdict of the review is {found['verdict']!r}, neither revise nor keep", text)
    if verdict == "keep":
        return None
    if not found["critique"]:
        raise Unreadable("the review asks for a revision and does not say of what", text)
    return found["critique"]
