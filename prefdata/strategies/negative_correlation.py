"""Strategy: one request for several answers that are meant to diverge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdata.core.drafts import candidate, parts, sheet
from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.ids import hash_uuid
from prefdata.core.judging import read, talk
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Prompt, Response


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/negative_correlation.txt",
    calls="1",
    paper="negatively correlated candidates of Community Alignment, arXiv:2507.09650",
)
async def negative_correlation(
    prompt: Prompt,
    ask: Ask,
    *,
    n: int = 4,
    tries: int = 3,
    temperature: float | None = 1.0,
    max_tokens: int = 4096,
    template: Path | None = None,
) -> list[Response]:
    """n answers for people with different values, written in one reply (role divergent).

    Answers drawn one by one all speak for the same people; asked for at once, they can keep away from each other. Each says
    for whom it is meant (`people`), its `position` in the reply, and the `set_id` of the reply. A reply without n different
    answers is asked for once more, and never filled up; after the last try the row fails.

    Args:
        n: answers, from 2.
        tries: replies asked for at most.
        temperature: of the sampling; null where the model takes none.
        max_tokens: longest reply with all n answers, in tokens.
        template: a prompt file of your own in place of negative_correlation.txt, with the parts system and user.
    """
    if n < 2 or tries < 1:
        raise BadValue("n and tries", (n, tries), "n from 2 and tries from 1")
    text = sheet(__file__, "negative_correlation.txt", template, "system", "user")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    names = [name for i in range(1, n + 1) for name in (f"people_{i}", f"answer_{i}")]
    form = "\n".join(f"<{name}>\n{_FORM[name.partition('_')[0]]}\n</{name}>" for name in names)
    asked = text.asks("user", conversation=talk(prompt), n=n, form=form)
    for attempt in range(tries):
        reply = await ask(asked, sample=attempt, **sampling)
        try:
            found = read(reply, lambda said: _different(said, names))
            break
        except Unreadable:
            if attempt + 1 == tries:
                raise
    shared = {**sampling, "template": text.ref("user"), "n": n, "set_id": hash_uuid(f"{prompt.id} {reply.model} {attempt} {reply.text}")}
    return [
        candidate(
            prompt,
            reply,
            "divergent",
            text=found[f"answer_{i}"],
            sample=i,
            params={**shared, "position": i, "people": found[f"people_{i}"]},
        )
        for i in range(1, n + 1)
    ]


def _different(text: str, names: list[str]) -> dict[str, str]:
    """The parts of a reply; raises Unreadable where two answers are the same."""
    found = parts(text, *names, may_be_empty=[name for name in names if name.startswith("people")])
    answers = [found[name] for name in names if name.startswith("answer")]
    if len(set(answers)) < len(answers):
        raise Unreadable(f"the reply's {len(answers)} answers are not all different", text)
    return found


_FORM = {"people": "Who would choose this answer, and why, in one sentence.", "answer": "The whole answer."}
