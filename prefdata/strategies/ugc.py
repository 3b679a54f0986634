"""Strategy: a question that somebody's text answers, with the text as the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdata.core.drafts import candidate, derived, exact, last_text, made_by, parts, sheet
from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import read, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence

NAME = "ugc"


@method(version=1, subject="prompt", prompt_file="prompts/ugc.txt", calls="1 + n", paper="PUGC, arXiv:2506.04463")
async def ugc(
    prompt: Prompt,
    ask: Ask,
    writer: Ask | None = None,
    *,
    n: int = 4,
    temperature: float | None = 0.9,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """User-generated content becomes a reader's question with n answers; the text is the reference to score them against.

    The stored prompt is a post, a review, an article. `writer` (or `ask`) decides whether it can serve, and writes the
    question; the new prompt keeps the text in its meta as `reference`. The text itself is no candidate: it was not written as an
    answer. Abstains on texts that cannot serve, and on prompts that this strategy made.

    Args:
        n: answers drawn to the question.
        temperature: of the answers, the question is asked for at 0; null where a model takes none.
        max_tokens: longest answer, in tokens.
        template: a prompt file of your own in place of ugc.txt, with the parts system and query.
    """
    if n < 1:
        raise BadValue("n", n, "a number from 1")
    post = last_text(prompt)
    if made_by(prompt, NAME) or not post or not post.strip():
        return Abstained(f"{NAME} made this prompt" if post else "the last message is not plain text")
    text = sheet(__file__, "ugc.txt", template, "system", "query")
    asked = text.asks("query", post=fence(post, "post"))
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    verdict, question = read(await (writer or ask)(asked, **exact(sampling)), _query)
    if verdict == "drop":
        return Abstained(f"the text cannot serve as a reference: {question}")
    new = derived(prompt, ({"role": "user", "content": question},), NAME, reference=post)
    replies = await together([ask(new.messages, sample=i, **sampling) for i in range(n)])
    params = {**sampling, "template": text.ref("query")}
    made = [candidate(new, reply, "sample", params=params, sample=i) for i, reply in enumerate(replies) if reply.text.strip()]
    return made or Abstained("every answer came back empty")


def _query(text: str) -> tuple[str, str]:
    """keep or drop, and the question or the reason."""
    found = parts(text, "verdict", "question", may_be_empty=["question"])
    verdict = found["verdict"].strip(" .*_`'\"").casefold()
    if verdict not in ("keep", "drop"):
        raise Unreadable(f"the verdict on the text is {found['verdict']!r}, neither keep nor drop", text)
    if verdict == "keep" and not found["question"]:
        raise Unreadable("the text is kept, and there is no question to it", text)
    return verdict, found["question"] or "no reason given"
