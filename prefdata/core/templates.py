"""Prompt files: text with `{name}` in it, and ways to put other people's text into it without being talked over.

What a model is asked lies in a text file beside the method, under `prompts/`. Responses and imported prompts are
untrusted: they go in through `fence`, so that nothing in them can pass for the end of the quotation or for our own words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.core.errors import PrefdataError
from prefdata.core.ids import canonical_json
from prefdata.core.rows import Message

_PLACE = re.compile(r"\{\{[A-Za-z_]\w*\}\}|\{(?P<name>[A-Za-z_]\w*)\}")
_HEADING = re.compile(r"^### ([a-z_]\w*)[ \t]*$", re.MULTILINE)
_TAG = re.compile(r"[A-Za-z][\w-]*")
_DIGITS = 12
"""Hexadecimal digits of a fence's id."""


def load(here: str, name: str, own: Path | None = None) -> str:
    """The text of a prompt file.

    Args:
        here: `__file__` of the method.
        name: path from there, such as "prompts/pairwise.txt".
        own: a user's file that takes its place.

    Raises:
        PrefdataError: the file is not there or is not UTF-8 text.
    """
    path = own if own is not None else Path(here).parent / name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PrefdataError(f"there is no prompt file {str(path)!r}; give the path of a text file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdataError(f"the prompt file {str(path)!r} cannot be read: {error}.") from None


def fill(template: str, /, **fields: str | int | float) -> str:
    """Replace every `{name}` by its field, in one pass: what a field holds is never looked at again.

    Only a name between single braces is a place; `{"json": 1}`, `{}` and `{{name}}` stay as they are.

    Raises:
        PrefdataError: a place without a field, or a field without a place.
    """
    places = {found["name"] for found in _PLACE.finditer(template)} - {None}
    without_field, without_place = sorted(places - set(fields)), sorted(set(fields) - places)
    if without_field or without_place:
        said = [f"{{{name}}} is no field of this prompt" for name in without_field]
        said += [f"the place {{{name}}} is missing" for name in without_place]
        raise PrefdataError(
            f"the prompt template does not fit: {'; '.join(said)}. Its places must be: {', '.join(f'{{{n}}}' for n in fields) or 'none'}; "
            "a word in braces that is no place is written with two, {{so}}."
        )
    return _PLACE.sub(lambda found: str(fields[found["name"]]) if found["name"] else found[0], template)


def fence(text: str, tag: str) -> str:
    """`text` between `<tag id="...">` and `</tag id="...">`, each on a line of its own.

    The id is a hash of the text that does not occur in it, so that the text cannot hold its own end marker; the same
    text always gets the same id, so that a repeated request is the same request.
    """
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no name for a fence")
    mark = ""
    while not mark or mark in text:
        mark = hashlib.sha256(f"{tag} {mark} {text}".encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
    return f'<{tag} id="{mark}">\n{text}\n</{tag} id="{mark}">'


def conversation(messages: Sequence[Message]) -> str:
    """A whole conversation as text: `role: content`, an empty line between two messages.

    Content parts are joined by line breaks; an image is `[image]`, another part that is no text `[its type]`, a tool call
    `[tool call name(arguments)]`.
    """
    return "\n\n".join(f"{message['role']}: {_content(message)}" for message in messages)


def _content(message: Message) -> str:
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [_part(part) for part in content or ()]
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    return "\n".join(text for text in (*parts, *calls) if text)


def _part(part: Any) -> str:
    if not isinstance(part, Mapping):
        return str(part)
    kind = str(part.get("type", "text"))
    if isinstance(part.get("text"), str):
        return str(part["text"])
    return "[image]" if "image" in kind else f"[{kind}]"


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else {}
    arguments = function.get("arguments", "")
    return f"[tool call {function.get('name', '')}({arguments if isinstance(arguments, str) else canonical_json(arguments)})]"


def sections(text: str) -> dict[str, str]:
    """The parts of a prompt file by name; each begins with a line `### name` in small letters (`### system`, `### user`).

    A file without such a line is all `user`. Line breaks around a part do not belong to it.

    Raises:
        PrefdataError: there is text before the first heading, or a name comes twice.
    """
    headings = list(_HEADING.finditer(text))
    if not headings:
        return {"user": text.strip("\r\n")}
    if text[: headings[0].start()].strip():
        raise PrefdataError(
            f"the prompt file has text before its first part '### {headings[0][1]}'; put it under a heading such as '### user'."
        )
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    out: dict[str, str] = {}
    for heading, end in zip(headings, ends, strict=True):
        if heading[1] in out:
            raise PrefdataError(f"the prompt file has the part '### {heading[1]}' twice; a name may come once.")
        out[heading[1]] = text[heading.end() : end].strip("\r\n")
    return out
