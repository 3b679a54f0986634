"""Strategy: a stronger model changes a draft as little as it can."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefdata.core.drafts import candidate, parts, sheet
from prefdata.core.judging import read, talk
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence

MINIMAL = 0.6
"""A revision that is further from its draft than this share of the longer text is hardly minimal."""


@method(version=1, subject="prompt", prompt_file="prompts/clair.txt", calls="2", paper="CLAIR, arXiv:2408.06266")
async def clair(
    prompt: Prompt,
    ask: Ask,
    teacher: Ask,
    *,
    direction: Literal["better", "worse"] = "better",
    temperature: float | None = 0.7,
    max_tokens: int = 4096,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """A draft by `ask` (role draft) and its minimal revision by `teacher` (role revised): a pair that differs in what matters.

    The revision carries the teacher's reasoning (`rationale`), its normalised edit distance from the draft (0 to 1), the
    ratio of both lengths, and whether it stayed minimal. Abstains where the teacher left the draft as it was.

    Args:
        direction: better: the revision improves the draft; worse: it spoils it, and has the role worsened.
        temperature: of both models; null where one takes none.
        max_tokens: longest draft, and longest reply of the teacher, in tokens.
        template: a prompt file of your own in place of clair.txt, with the parts system, better and worse.
    """
    from rapidfuzz.distance import Levenshtein

    text = sheet(__file__, "clair.txt", template, "system", direction)
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    first = await ask(prompt.messages, **sampling)
    draft = candidate(prompt, first, "draft", params=sampling)
    if not draft.text.strip():
        return Abstained("the draft came back empty")
    reply = await teacher(text.asks(direction, conversation=talk(prompt), draft=fence(draft.text, "draft")), **sampling)
    found = read(reply, lambda said: parts(said, "reasoning", "revised_answer", may_be_empty=["reasoning"]))
    revised = found["revised_answer"]
    if revised == draft.text.strip():
        return Abstained("the teacher left the draft as it was")
    distance = Levenshtein.normalized_distance(draft.text, revised)
    params = {
        **sampling,
        "template": text.ref(direction),
        "rationale": found["reasoning"],
        "edit_distance": distance,
        "minimal": distance < MINIMAL,
        "length_ratio": len(revised) / len(draft.text),
    }
    role = "revised" if direction == "better" else "worsened"
    return [draft, candidate(prompt, reply, role, params=params, text=revised, parents=[draft])]
