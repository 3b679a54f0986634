"""Judge: constraints that a program can check, in the spirit of IFEval."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from prefdata.core import text as texts
from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.method import method
from prefdata.core.rows import Abstained, Response, Score


class _Unsure(Exception):
    """The check cannot tell; the message says why."""


@method(version=1, subject="response", paper="IFEval, arXiv:2311.07911")
def rules(response: Response) -> Score | Abstained:
    """Share of the prompt's constraints that a response meets, from 0 to 1; abstains where the prompt has none.

    Constraints stand in the prompt's meta: {"constraints": [{"kind": "max_words", "n": 50}, ...]}. Kinds: max_words,
    min_words, max_sentences, min_sentences, paragraphs, bullets, numbered (n); include, exclude (words); starts_with, ends_with
    (text); json (keys); language (code); lowercase, uppercase, no_commas, title, contains_code, quoted, ends_question. A constraint of
    an unknown kind or with wrong fields fails the row. Where the language cannot be told, that constraint is left out of the
    share, and the rationale says so.
    """
    constraints = response.prompt.meta.get("constraints")
    if constraints is None or constraints == []:
        return Abstained("the prompt has no constraints")
    if not isinstance(constraints, list):
        raise PrefdataError(f"meta.constraints is {constraints!r}; it must be a list such as [{{'kind': 'max_words', 'n': 50}}].")
    met: dict[str, bool] = {}
    notes = []
    for constraint in constraints:
        kind, check, fields = _read(constraint)
        name = kind if kind not in met else f"{kind}_{1 + sum(other.startswith(kind) for other in met)}"
        try:
            broken = check(response.text, **fields)
        except _Unsure as unsure:
            notes.append(f"{kind} left out: {unsure}")
            continue
        met[name] = not broken
        if broken:
            notes.append(f"{kind} broken: {broken}")
    if not met:
        return Abstained("; ".join(notes))
    return Score(sum(met.values()) / len(met), met, "; ".join(notes) or "all constraints met")


def _read(constraint: Any) -> tuple[str, Callable[..., str | None], dict[str, Any]]:
    """A constraint's kind, its check and the fields for it."""
    if not isinstance(constraint, Mapping) or not isinstance(constraint.get("kind"), str):
        raise PrefdataError(f"the constraint {constraint!r} has no kind; it must look like {{'kind': 'max_words', 'n': 50}}.")
    kind = constraint["kind"]
    if kind not in _CHECKS:
        raise UnknownName("kind of constraint", kind, _CHECKS)
    given = {name: value for name, value in constraint.items() if name != "kind"}
    known = dict(list(inspect.signature(_CHECKS[kind]).parameters.items())[1:])
    for name, value in given.items():
        if name not in known:
            raise UnknownName("field", name, known, f" of the constraint {kind}")
        fits, wanted = _FIELDS[name]
        if not fits(value):
            raise PrefdataError(f"the constraint {kind} has {name} {value!r}; it must be {wanted}.")
    lacking = [name for name, parameter in known.items() if name not in given and parameter.default is parameter.empty]
    if lacking:
        raise PrefdataError(f"the constraint {kind} lacks {lacking[0]!r}, {_FIELDS[lacking[0]][1]}.")
    return kind, _CHECKS[kind], given


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) and word.strip() for word in value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "a whole number from 0"),
    "words": (_is_words, "a list of words"),
    "keys": (lambda v: v == [] or _is_words(v), "a list of key names"),
    "text": (lambda v: isinstance(v, str) and bool(v.strip()), "a text"),
    "code": (lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z]{2,3}([-_]\w+)*", v) is not None, "a language code such as 'de'"),
}


def _at_most(count: Callable[[str], int], unit: str) -> Callable[..., str | None]:
    def check(text: str, n: int) -> str | None:
        return f"{count(text)} {unit}, at most {n}" if count(text) > n else None

    return check


def _at_least(count: Callable[[str], int], unit: str) -> Callable[..., str | None]:
    def check(text: str, n: int) -> str | None:
        return f"{count(text)} {unit}, at least {n}" if count(text) < n else None

    return check


def _exactly(count: Callable[[str], int], unit: str) -> Callable[..., str | None]:
    def check(text: str, n: int) -> str | None:
        return f"{count(text)} {unit}, exactly {n}" if count(text) != n else None

    return check


def _that(holds: Callable[[str], Any], complaint: str) -> Callable[..., str | None]:
    def check(text: str) -> str | None:
        return None if holds(text) else complaint

    return check


def _has(text: str, word: str) -> bool:
    """Whole words, in any case; scripts without spaces match anywhere."""
    pattern = r"\s+".join(map(re.escape, word.split()))
    if texts.spaced(word):
        pattern = rf"(?<!\w){pattern}(?!\w)"
    return re.search(pattern, text, re.IGNORECASE) is not None


def _include(text: str, words: list[str]) -> str | None:
    absent = [word for word in words if not _has(text, word)]
    return f"lacks {', '.join(map(repr, absent))}" if absent else None


def _exclude(text: str, words: list[str]) -> str | None:
    there = [word for word in words if _has(text, word)]
    return f"contains {', '.join(map(repr, there))}" if there else None


def _starts_with(given: str, text: str) -> str | None:
    return None if given.strip().casefold().startswith(text.strip().casefold()) else f"does not start with {text!r}"


def _ends_with(given: str, text: str) -> str | None:
    return None if given.strip().casefold().endswith(text.strip().casefold()) else f"does not end with {text!r}"


def _json(text: str, keys: list[str] | None = None) -> str | None:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(texts.unfenced(text), parse_constant=refuse)
    except (ValueError, RecursionError):
        return "not JSON"
    if keys and not isinstance(value, dict):
        return f"a JSON {type(value).__name__}, not an object"
    absent = [key for key in keys or () if key not in value]
    return f"lacks the keys {', '.join(map(repr, absent))}" if absent else None


def _language(text: str, code: str) -> str | None:
    wanted = re.split("[-_]", code.lower())[0]
    if wanted not in texts.known_languages():
        raise _Unsure(f"{code!r} is not among the languages that can be told apart")
    found = texts.language(text)
    if found is None:
        raise _Unsure("the language is not clear")
    return None if found == wanted else f"looks like {found!r}, not {wanted!r}"


_CHECKS: dict[str, Callable[..., str | None]] = {
    "max_words": _at_most(texts.words, "words"),
    "min_words": _at_least(texts.words, "words"),
    "max_sentences": _at_most(texts.sentences, "sentences"),
    "min_sentences": _at_least(texts.sentences, "sentences"),
    "paragraphs": _exactly(lambda text: len(texts.paragraphs(text)), "paragraphs"),
    "bullets": _exactly(texts.bullets, "bullets"),
    "numbered": _exactly(texts.numbered, "numbered lines"),
    "include": _include,
    "exclude": _exclude,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "json": _json,
    "language": _language,
    "lowercase": _that(lambda text: text == text.lower() != text.upper(), "has capital letters, or no letters"),
    "uppercase": _that(lambda text: text == text.upper() != text.lower(), "has small letters, or no letters"),
    "no_commas": _that(lambda text: not re.search("[,\uff0c\u3001\u060c]", text), "contains a comma"),
    "title": _that(lambda text: re.search(r"<<[^<>\n]*[^<>\s]>>", text), "has no <<title>>"),
    "contains_code": _that(texts.code_blocks, "has no fenced code block"),
    "quoted": _that(lambda text: re.fullmatch('["\u201c].*["\u201d]', text.strip(), re.DOTALL), "is not in double quotes"),
    "ends_question": _that(
        lambda text: re.search("[?\uff1f\u061f][\"'\u201d\u2019)\u300d]*$", text.strip()), "does not end with a question mark"
    ),
}
