"""Finding the JSON value in what a model wrote."""

from __future__ import annotations

import json
import re
from typing import Any

from prefdata.core.errors import Unreadable

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_TOKEN = re.compile(
    r"""("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])|\b(True|False|None)\b|(?<=[{\[,:\s])'((?:[^'\\]|\\.)*)'(?=\s*[,:}\]])""", re.DOTALL
)
_PYTHON = {"True": "true", "False": "false", "None": "null"}
_OBJECT = re.compile(r"""\{\s*["'}]""")
_OPENER = re.compile(r"""\{\s*["'}]|\[(?=\s*["'{[\]\dtfnTFN-])""")
_ATTEMPTS = 200
_DECODER = json.JSONDecoder(strict=False)


def parse_json(text: str) -> Any:
    """The JSON value in a model's reply.

    Code fences, prose around the value, trailing commas, raw line breaks in strings, single quotes and Python's True,
    False and None are tolerated. Of several values the last object that is not empty counts, or else the last array: models reason
    first and conclude then. A value that is cut off raises, and no part of it is taken for the whole.

    Raises:
        Unreadable: there is no whole JSON value.
    """
    body = text.rpartition("</think>")[2].strip()
    for candidate in (body, *reversed(_FENCE.findall(body))):
        found = _whole(candidate.strip())
        if found is not None:
            return found[0]
    values = [value for value, _, _ in values_in(body, text)]
    for kind in (dict, list):
        fitting = [value for value in values if isinstance(value, kind)]
        if fitting:
            return next((value for value in reversed(fitting) if value), fitting[-1])
    raise Unreadable("the reply holds no JSON", text)


def values_in(body: str, text: str = "") -> list[tuple[Any, int, int]]:
    """The outermost objects and arrays of `body`, each with where it begins and ends.

    Raises:
        Unreadable: an object begins and cannot be read; `text` is the reply that the message then shows, by default `body`.
    """
    values, at = [], 0
    for _ in range(_ATTEMPTS):
        opener = _OPENER.search(body, at)
        if opener is None:
            break
        try:
            value, at = _DECODER.raw_decode(body, opener.start())
        except (ValueError, RecursionError):
            rest = body[opener.start() :]
            try:
                value, used = _DECODER.raw_decode(_repaired(rest))
            except (ValueError, RecursionError) as error:
                if _OBJECT.match(rest) or isinstance(error, RecursionError):
                    raise Unreadable("the reply holds JSON that is broken or cut off", text or body) from None
                at = opener.end()
                continue
            at = opener.start() + _before_repair(rest, used)
        values.append((value, opener.start(), at))
    return values


def _whole(text: str) -> tuple[Any] | None:
    for attempt in (text, _repaired(text)):
        try:
            return (_DECODER.decode(attempt),)
        except (ValueError, RecursionError):
            continue
    return None


def _repaired(text: str) -> str:
    return _TOKEN.sub(_mend, text)


def _mend(match: re.Match[str]) -> str:
    if match[3] is not None:
        return json.dumps(match[3].replace("\\'", "'"))
    return match[1] or _PYTHON.get(match[2] or "", "")


def _before_repair(text: str, used: int) -> int:
    """Where in `text` the first `used` characters of its repaired form end."""
    gained = 0
    for match in _TOKEN.finditer(text):
        if match.start() + gained >= used:
            break
        gained += len(_mend(match)) - len(match[0])
    return used - gained
