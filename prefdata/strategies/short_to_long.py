"""Strategy: the answer to a passage against the answer to the whole document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prefdata.core.drafts import Sheet, candidate, derived, drawn, last_text, made_by, parts, sheet, with_last
from prefdata.core.errors import BadValue
from prefdata.core.judging import read, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence

NAME = "short_to_long"
_BREAK = re.compile(r"\n[ \t\r]*\n\s*|\s+|(?<=[\u3002\uff01\uff1f])")
_ENDS = tuple(".!?\u2026\u3002\uff01\uff1f")


@method(version=1, subject="prompt", prompt_file="prompts/short_to_long.txt", calls="3 * n", paper="LongPO, arXiv:2502.13922")
async def short_to_long(
    prompt: Prompt,
    ask: Ask,
    seed: int,
    writer: Ask | None = None,
    *,
    passage_chars: int = 6000,
    n: int = 1,
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """A question about a passage of a long document, answered from the passage (role short) and from the whole (role long).

    The stored prompt is the document. Both answers stand under a new prompt, the whole document with the question; the one
    from the passage shows what the model could do if length did not trouble it. The new prompt's meta holds the short prompt
    (`reference_prompt`), for losses whose reference reads that one. `writer` asks the question, or `ask` itself.
    Abstains where the document is no longer than a passage, and on prompts that this strategy made.

    Args:
        passage_chars: longest passage, in characters; it begins and ends between paragraphs, sentences or words.
        n: passages drawn from each document, none twice.
        temperature: of every call; null where a model takes none.
        max_tokens: longest answer, in tokens.
        template: a prompt file of your own in place of short_to_long.txt, with the parts system, instruct and prompt.
    """
    if passage_chars < 1 or n < 1:
        raise BadValue("passage_chars and n", (passage_chars, n), "numbers from 1")
    document = last_text(prompt)
    if document is None or made_by(prompt, NAME):
        return Abstained("the last message is not plain text" if document is None else f"{NAME} made this prompt")
    passages = _passages(document, passage_chars)
    if len(passages) < 2:
        return Abstained("the document is no longer than one passage")
    text = sheet(__file__, "short_to_long.txt", template, "system", "instruct", "prompt")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    chosen = drawn(seed, prompt, NAME).sample(passages, min(n, len(passages)))
    made = await together([_pair(prompt, document, at, ask, writer or ask, text, sampling) for at in chosen])
    return [one for pair in made for one in pair] or Abstained("no passage gave two answers that differ")


async def _pair(
    prompt: Prompt, document: str, at: tuple[int, int], ask: Ask, writer: Ask, text: Sheet, sampling: dict[str, Any]
) -> list[Response]:
    """Both answers to a question about the passage at `at`; none where they do not differ."""
    passage = document[slice(*at)].strip()
    found = read(
        await writer(text.asks("instruct", passage=fence(passage, "passage")), **sampling), lambda said: parts(said, "instruction")
    )
    short, whole = (
        with_last(prompt.messages, text.said("prompt", document=shown, instruction=found["instruction"])) for shown in (passage, document)
    )
    asked = derived(prompt, whole, NAME, passage=list(at), instruction=found["instruction"], reference_prompt=list(short))
    better, worse = await together([ask(messages, **sampling) for messages in (short, whole)])
    if not better.text.strip() or not worse.text.strip() or better.text.strip() == worse.text.strip():
        return []
    params = {**sampling, "template": text.ref("prompt"), "set": f"{at[0]}-{at[1]}"}
    return [candidate(asked, better, "short", params=params), candidate(asked, worse, "long", params=params)]


def _passages(document: str, longest: int) -> list[tuple[int, int]]:
    """The document cut into passages of at most `longest` characters, each as (start, end).

    A cut falls between paragraphs where there is such a place in the second half of the passage, else between sentences,
    else between words, else anywhere.
    """
    out, start = [], 0
    while start < len(document):
        end = min(start + longest, len(document))
        if end < len(document):
            end = _cut(document, start, end)
        if document[start:end].strip():
            out.append((start, end))
        start = end
    return out


def _cut(document: str, start: int, end: int) -> int:
    """The last good place to cut at in the second half of document[start:end]."""
    best: tuple[int, int] = (0, end)
    for place in _BREAK.finditer(document, (start + end) // 2, end):
        before = document[place.start() - 1 : place.start()]
        rank = 3 if place[0].count("\n") > 1 else 2 if before in _ENDS else 1
        if place.end() > start and rank >= best[0]:
            best = (rank, place.end())
    return best[1]
