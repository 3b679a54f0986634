"""What strategies share: a reply as a candidate, labelled parts of a reply, prompts that are made from prompts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.core.errors import PrefdataError, Unreadable
from prefdata.core.jsons import parse_json
from prefdata.core.protocols import Reply
from prefdata.core.results import clean
from prefdata.core.rows import Message, Prompt, Response
from prefdata.core.templates import fill, load, sections

_SYSTEM = ("system", "developer")


def candidate(
    prompt: Prompt,
    reply: Reply,
    role: str,
    *,
    params: Mapping[str, Any],
    text: str | None = None,
    sample: int = 0,
    parents: Iterable[Response] = (),
) -> Response:
    """The candidate that a reply is, or holds.

    Args:
        role: what it is for its strategy.
        params: sampling and whatever else it was made with, so that the request can be built again.
        text: the part of the reply that is the candidate; None: all of it.
        sample: tells equal texts of one model apart; part of the response's identity.
        parents: the responses it was made from.
    """
    return Response(
        prompt,
        clean(reply.text if text is None else text),
        reply.model,
        sample=sample,
        role=role,
        parents=tuple(parent.id for parent in parents),
        params=params,
        finish=reply.finish,
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
    )


def parts(text: str, *names: str, may_be_empty: Sequence[str] = ()) -> dict[str, str]:
    """The parts of a reply that stand in `<name>...</name>`, in this order, without the white space around them.

    What stands before the end of the model's thinking does not count. Each marker must be there exactly once: where a quoted
    text brings its own, nobody can tell which one the model meant.

    Args:
        text: the reply.
        names: of the parts.
        may_be_empty: those of them that need not hold anything.

    Raises:
        Unreadable: a marker is missing, comes twice or out of order (a reply that was cut off, for one), or a part is empty.
    """
    body = clean(text.rpartition("</think>")[2])
    found: dict[str, str] = {}
    at = 0
    for name in names:
        opener, closer = f"<{name}>", f"</{name}>"
        start, end = body.find(opener, at), body.find(closer, at)
        if start < 0 or end < start:
            raise Unreadable(f"the reply has no part {opener}...{closer} where it should be", text)
        if body.count(opener) > 1 or body.count(closer) > 1:
            raise Unreadable(f"the reply has the marker {opener} or {closer} more than once", text)
        found[name] = body[start + len(opener) : end].strip()
        if not found[name] and name not in may_be_empty:
            raise Unreadable(f"the reply's part {opener} is empty", text)
        at = end + len(closer)
    return found


def json_list(text: str, name: str) -> list[Any]:
    """The list that a reply in JSON holds under `name`, its texts as they were written; raises Unreadable where there is none."""
    found = parse_json(text)
    listed = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(listed, list):
        raise Unreadable(f"the reply holds no list {name!r}", text)
    return listed


def exact(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The same sampling at temperature 0, for lists, checks and scores; where a model takes no temperature, still without."""
    return {**sampling, "temperature": None if sampling["temperature"] is None else 0.0}


def with_system(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The conversation with `text` as its system message; where it has one, `text` follows what that says."""
    if not messages or messages[0]["role"] not in _SYSTEM:
        return ({"role": "system", "content": text}, *messages)
    first, content = messages[0], messages[0]["content"]
    joined: Any = f"{content}\n\n{text}" if isinstance(content, str) else [*(content or ()), {"type": "text", "text": text}]
    return ({**first, "content": joined}, *messages[1:])


def with_turns(messages: Sequence[Message], answer: str, *more: str) -> tuple[Message, ...]:
    """The conversation going on: an answer, then by turns what the user says and the next answer."""
    turns = ({"role": ("assistant", "user")[number % 2], "content": text} for number, text in enumerate((answer, *more)))
    return (*messages, *turns)


def last_text(prompt: Prompt) -> str | None:
    """The last message, where it is plain text; None where it holds images or other parts."""
    content = prompt.messages[-1]["content"]
    return content if isinstance(content, str) else None


def with_last(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The conversation with `text` in place of its last message's."""
    return (*messages[:-1], {**messages[-1], "content": text})


def derived(prompt: Prompt, messages: Sequence[Message], by: str, *, keep: bool = False, **what: Any) -> Prompt:
    """A prompt made from `prompt`; its meta says by which method (`made_by`), from which prompt (`made_from`), and `what` else.

    `lineage` names the methods that made it and those before it, one after the other.

    Args:
        keep: also keep the meta of `prompt`; only where what it says (a known answer, constraints) still holds.
    """
    lineage = [*_lineage(prompt), by]
    meta = {**(prompt.meta if keep else {}), **what, "made_by": by, "made_from": prompt.id, "lineage": lineage}
    said = ({**one, "content": clean(one["content"])} for one in messages)
    return Prompt(tuple(said), prompt.source, meta)


def made_by(prompt: Prompt, name: str) -> bool:
    """Whether the method `name` had a part in this prompt: a strategy that makes prompts leaves its own alone, or no run would end."""
    return name in _lineage(prompt)


def _lineage(prompt: Prompt) -> list[Any]:
    found = prompt.meta.get("lineage")
    return found if isinstance(found, list) else []


def drawn(seed: int, prompt: Prompt, *more: object) -> random.Random:
    """A generator of random numbers that depends on the seed, the prompt and `more`, and on nothing else."""
    return random.Random(" ".join(map(str, (seed, prompt.id, *more))))


@dataclass(frozen=True)
class Sheet:
    """A prompt file, opened: its parts by name."""

    name: str
    parts: Mapping[str, str]

    def said(self, part: str, /, **fields: str | int) -> str:
        """A part with its places filled."""
        return fill(self.parts[part], **fields)

    def asks(self, part: str, /, **fields: str | int) -> tuple[Message, ...]:
        """A request: the part `system`, and `part`, filled, as the user's message."""
        return ({"role": "system", "content": self.parts["system"]}, {"role": "user", "content": self.said(part, **fields)})

    def ref(self, part: str) -> str:
        """How the params of a candidate name a part."""
        return f"{self.name}#{part}"


def sheet(here: str, name: str, own: Path | None, *needed: str) -> Sheet:
    """Open a prompt file of the folder `prompts` beside a method.

    Args:
        here: `__file__` of the method.
        name: of the file there.
        own: a user's file that takes its place.
        needed: the parts that the method uses.

    Raises:
        PrefdataError: the file cannot be read, or a part is missing.
    """
    found = sections(load(here, f"prompts/{name}", own))
    missing = [part for part in needed if part not in found]
    if missing:
        raise PrefdataError(f"the prompt file {str(own or name)!r} has no part '### {missing[0]}'; copy {name} and change the words in it.")
    return Sheet(str(own or name), found)
