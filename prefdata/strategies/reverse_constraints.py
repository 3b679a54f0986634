"""Strategy: turn the constraints that the best answer missed round, so that it meets them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.core.drafts import Sheet, candidate, derived, exact, json_list, last_text, made_by, sheet, with_last
from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import read, talk, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence

NAME = "reverse_constraints"


@dataclass(frozen=True)
class _Constraint:
    """Words of the request, and words for the opposite that fit their place."""

    quote: str
    reverse: str


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/reverse_constraints.txt",
    calls="1 + 2 * n",
    paper="Reverse Preference Optimization, arXiv:2505.22172",
)
async def reverse_constraints(
    prompt: Prompt,
    ask: Ask,
    critic: Ask | None = None,
    *,
    n: int = 4,
    most: int = 8,
    temperature: float | None = 0.9,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """n answers under a request whose constraints are reversed where the best answer missed them, so that it meets all.

    `critic` (or `ask`) lists the constraints in the last message, word for word with an opposite each, and checks every answer against
    each. The answer that meets most is kept (role satisfies); the constraints it misses are replaced by their opposites
    in a new prompt, and whichever other answers miss some of those stand there, too (role violates), with what they meet. The words of
    the request are replaced where they stand, once each; a constraint whose words are not there is left out. Where the
    best answer meets everything, the prompt stays as it is. Prompts that this strategy made are left alone.

    Args:
        n: answers drawn, from 2.
        most: constraints at most.
        temperature: of the answers, lists and checks are asked for at 0; null where a model takes none.
        max_tokens: longest answer, list or check, in tokens.
        template: a prompt file of your own in place of reverse_constraints.txt, with the parts system, extract and check.
    """
    if n < 2 or most < 1:
        raise BadValue("n and most", (n, most), "n from 2 and most from 1")
    request = last_text(prompt)
    if made_by(prompt, NAME) or request is None:
        return Abstained("the last message is not plain text" if request is None else f"{NAME} made this prompt")
    text, checker = sheet(__file__, "reverse_constraints.txt", template, "system", "extract", "check"), critic or ask
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    asked = text.asks("extract", conversation=talk(prompt), request=fence(request, "request"), most=most)
    listed = read(await checker(asked, **exact(sampling)), _listed)
    constraints = _placed(request, listed)[:most]
    if not constraints:
        return Abstained("no constraint of the prompt was found in its words" if listed else "the prompt has no constraints")
    replies = await together([ask(prompt.messages, sample=i, **sampling) for i in range(n)])
    drawn = [(i, reply) for i, reply in enumerate(replies) if reply.text.strip()]
    met = await together([_checked(checker, text, prompt, reply.text, constraints, exact(sampling)) for _, reply in drawn])
    if len({tuple(one) for one in met}) < 2:
        return Abstained("no two answers meet different constraints")
    best = max(range(len(drawn)), key=lambda at: sum(met[at]))
    reversed_ = [not one for one in met[best]]
    new = _reversed(request, constraints, reversed_)
    asked_now = derived(prompt, with_last(prompt.messages, new), NAME, request=request) if any(reversed_) else prompt
    params: dict[str, Any] = {
        **sampling,
        "template": text.ref("extract"),
        "constraints": [one.reverse if turned else one.quote for one, turned in zip(constraints, reversed_, strict=True)],
        "reversed": reversed_,
    }
    made = []
    for at, (i, reply) in enumerate(drawn):
        now = [one != turned for one, turned in zip(met[at], reversed_, strict=True)]
        if at == best or not all(now):
            role = "satisfies" if at == best else "violates"
            made.append(candidate(asked_now, reply, role, sample=i, params={**params, "met": now, "share_met": sum(now) / len(now)}))
    return made


def _listed(text: str) -> list[_Constraint]:
    """The constraints in a reply."""
    made = []
    for one in json_list(text, "constraints"):
        quote, reverse = (one.get("quote"), one.get("reverse")) if isinstance(one, dict) else (None, None)
        if not isinstance(quote, str) or not isinstance(reverse, str) or not quote.strip() or not reverse.strip():
            raise Unreadable("the reply has a constraint without quote and reverse", text)
        if quote.strip() != reverse.strip():
            made.append(_Constraint(quote.strip(), reverse.strip()))
    return made


def _placed(request: str, constraints: Sequence[_Constraint]) -> list[_Constraint]:
    """Those whose words stand in the request exactly once and do not overlap with earlier ones, in the order of the request."""
    taken: list[tuple[int, int, _Constraint]] = []
    for one in constraints:
        start = request.find(one.quote)
        end = start + len(one.quote)
        if request.count(one.quote) == 1 and all(end <= other[0] or start >= other[1] for other in taken):
            taken.append((start, end, one))
    return [one for _, _, one in sorted(taken, key=lambda place: place[0])]


def _reversed(request: str, constraints: Sequence[_Constraint], turned: Sequence[bool]) -> str:
    """The request with the opposites in place; one pass, so that no opposite is taken for another constraint's words."""
    out, at = [], 0
    for one, turn in zip(constraints, turned, strict=True):
        start = request.index(one.quote, at)
        out += [request[at:start], one.reverse if turn else one.quote]
        at = start + len(one.quote)
    return "".join([*out, request[at:]])


async def _checked(
    checker: Ask, text: Sheet, prompt: Prompt, answer: str, constraints: Sequence[_Constraint], sampling: dict[str, Any]
) -> list[bool]:
    """Which constraints an answer meets."""
    numbered = fence("\n".join(f"{number}. {one.quote}" for number, one in enumerate(constraints, 1)), "constraints")
    asked = text.asks("check", conversation=talk(prompt), answer=fence(answer, "answer"), constraints=numbered)

    def met(said: str) -> list[bool]:
        found = json_list(said, "met")
        if len(found) != len(constraints) or not all(isinstance(one, bool) for one in found):
            raise Unreadable(f"the check does not say true or false for each of {len(constraints)} constraints", said)
        return found

    return read(await checker(asked, **sampling), met)
