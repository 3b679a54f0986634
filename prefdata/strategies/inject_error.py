"""Strategy: put believable errors into a sound answer."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from prefdata.core.drafts import candidate, parts, sheet
from prefdata.core.errors import BadValue
from prefdata.core.judging import in_meta, read, talk
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence

_PIECE = re.compile(r"\s+|[^\s\w]|\w+")


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/inject_error.txt",
    calls="1 if reference else 2",
    paper="hallucination injection of POVID, arXiv:2402.11411, applied to text",
)
async def inject_error(
    prompt: Prompt,
    ask: Ask,
    editor: Ask | None = None,
    *,
    errors: int = 2,
    reference: str = "",
    temperature: float | None = 0.7,
    max_tokens: int = 2048,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """An answer (role original) and the same with errors in it (role injected), which differ in nothing but what is true.

    `editor` puts the errors in, or `ask` itself where there is none. The injected answer keeps what the editor says it did
    (`errors_said`) and the words that really changed (`spans`: what was there, what is there now, and where, in characters of
    the original). That the original is true is not checked: take one that is known to be (`reference`) where there is. Abstains where
    the editor changed nothing.

    Args:
        errors: how many are asked for, from 1.
        reference: field of the prompt's meta that holds a sound answer, which then is the original; "": `ask` answers.
        temperature: of both calls; null where a model takes none.
        max_tokens: longest answer, and longest reply of the editor, in tokens.
        template: a prompt file of your own in place of inject_error.txt, with the parts system, user, one and many.
    """
    if errors < 1:
        raise BadValue("errors", errors, "a number from 1")
    text = sheet(__file__, "inject_error.txt", template, "system", "user", "one", "many")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    if reference:
        known = in_meta(prompt, reference)
        if not known:
            return Abstained(f"the prompt's meta has no {reference!r}")
        original = Response(prompt, known[0], role="original", params={"reference": reference})
    else:
        original = candidate(prompt, await ask(prompt.messages, **sampling), "original", params=sampling)
        if not original.text.strip():
            return Abstained("the answer came back empty")
    number = text.parts["one"] if errors == 1 else text.said("many", number=errors)
    asked = text.asks("user", conversation=talk(prompt), answer=fence(original.text, "answer"), errors=number)
    reply = await (editor or ask)(asked, **sampling)
    found = read(reply, lambda said: parts(said, "injected_errors", "changed_answer", may_be_empty=["injected_errors"]))
    changed = found["changed_answer"]
    spans = _spans(original.text.strip(), changed)
    if not spans:
        return Abstained("the editor changed nothing")
    params = {**sampling, "template": text.ref("user"), "errors": errors, "errors_said": found["injected_errors"], "spans": spans}
    return [original, candidate(prompt, reply, "injected", params=params, text=changed, parents=[original])]


def _spans(before: str, after: str) -> list[dict[str, Any]]:
    """The stretches of words that differ: what stood there, what stands there, and from which character of `before`."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    starts = [0]
    for piece in old:
        starts.append(starts[-1] + len(piece))
    return [
        {"from": "".join(old[i:j]), "to": "".join(new[k:m]), "at": starts[i]}
        for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
