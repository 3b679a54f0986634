"""Reading verdicts: what a judging model concluded, and nothing that it only quoted.

A reply may repeat the texts it judges, with markers that their authors planted. What stands before the last end of a
quotation (`</tag id="...">`, see `templates.fence`) or of the model's thinking never counts, and the last verdict wins. A
reply that cannot be read raises `Unreadable`; nothing is guessed.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from prefdata.core.errors import Unreadable
from prefdata.core.jsons import values_in
from prefdata.core.rows import Abstained, Choice, Verdict

T = TypeVar("T")
FIELDS = ("choice", "verdict", "winner")
"""Fields of a JSON reply that may hold the choice."""
_END = re.compile(r"</[A-Za-z][\w-]*\s+id\s*=\s*\"[0-9a-f]{6,64}\"\s*>")
_START = re.compile(r"^[ \t]*<[A-Za-z][\w-]*\s+id\s*=\s*\"[0-9a-f]{6,64}\"\s*>[ \t]*$", re.MULTILINE)
_MARK = re.compile(r"\\?\[\\?\[(?P<said>[^\[\]\n]{1,40})\]\\?\]")
_DRESS = " \t\r\n*_`'\"“”‘’.:!()\\"
_WHO = re.compile(r"(?:the )?(?:response|assistant|answer|output|model|candidate|option|text)[ _-]?\(?(?=\w+$)")
_TIES = ("tie", "c", "draw", "equal")
_ELSE = ("a", "b", "both_bad", *_TIES)
_NOT_ALLOWED = "\x00"
_LAST = re.compile(
    r"(?:(?:(?:my|the|so) )*(?:final |overall )?(?:verdict|choice|winner|answer|decision|judge?ment|preference)(?:\s+is\b|\s*[:=])+)?"
    r"(?P<said>[^:=]{1,40})", re.IGNORECASE,
)  # fmt: skip
_NUMERAL = r"(?P<said>[-+]?\d[\d.,]*(?:[ \t]*/[ \t]*\d[\d.]*)?(?:[ \t]*(?:[-\u2010-\u2015~]|to\b)[ \t]*\d[\d.,]*)?(?:[ \t]*%)?)(?![^\W_])"
"""A numeral with whatever belongs to it, so that 7/5, 7-8 and 7% are seen whole and refused."""
_ONE = re.compile(r"(?P<value>[-+]?\d+(?:\.\d+|,\d{1,2})?)(?:\s*/\s*(?P<most>\d+(?:\.\d+)?))?(?P<percent>\s*%)?")
_OVER = re.compile(r"(?<![\w.,/-])(?P<said>\d+(?:[.,]\d+)?\s*/\s*(?P<most>\d+))(?![\w/]|[.,]\d)")


def choice(text: str, allowed: Sequence[str] = ("A", "B", "tie")) -> str:
    """Which of `allowed` a reply chose, as `allowed` spells it.

    Read are, wherever they stand last: `[[A]]`; a JSON object with the field choice, verdict or winner; and, where there
    is neither, a last line that is only the verdict ("A", "Final verdict: B"). Case and markdown around it do not matter,
    "Response A" is A, and where "tie" is allowed and "C" is not, `[[C]]`, "draw" and "equal" are a tie.

    Raises:
        Unreadable: no verdict, one that is not allowed, or several different ones in the last line that has any.
    """
    body = conclusion(text)
    found = [(start, end, _named(said, allowed)) for start, end, said in _objects(body, text, FIELDS)]
    marks = [(mark, _named(mark["said"], allowed)) for mark in _outside(found, _MARK.finditer(body))]
    found += [(mark.start(), mark.end(), named) for mark, named in marks if named is not None]
    if not found:
        lines = body.strip().splitlines()
        matched = _LAST.fullmatch(lines[-1].strip(_DRESS)) if lines else None
        found = [(0, len(body), _named(matched["said"], allowed) if matched else None)]
    said = _last(body, found, f"verdict ({', '.join(allowed)})", text)
    if said == _NOT_ALLOWED:
        raise Unreadable(f"the reply's verdict is none of {', '.join(allowed)}", text)
    return said


def number(text: str, low: float, high: float, name: str = "score") -> float:
    """The number a reply gave, in [low, high].

    Read are, wherever they stand last: `[[7]]`, "Rating: 7" or "Score: 7" (or `name`), and a JSON object with the field
    `name`; where there is none of these, "7/10" and a last line that is only a number. "7/10" counts only where `high` is
    10, and "70 %" only where it is 100.

    Raises:
        Unreadable: no number, one out of range or of another scale, a span such as 7-8, or several different ones in the
            last line that has any.
    """
    body = conclusion(text)
    found = [(start, end, _value(said, high)) for start, end, said in _objects(body, text, (name,))]
    spelled = re.escape(name).replace("_", "[ _]")
    rated = re.compile(rf"\b(?:rating|score|{spelled})\b[\s\"'*_`]*(?:is\b|[:=])[\s\"'*_`\[(:]*{_NUMERAL}", re.IGNORECASE)
    marks = [mark for mark in (*_MARK.finditer(body), *rated.finditer(body)) if re.search(r"\d", mark["said"])]
    found += [(mark.start(), mark.end(), _value(mark["said"], high)) for mark in _outside(found, marks)]
    if not found:
        found = [(m.start(), m.end(), _value(m["said"], high)) for m in _OVER.finditer(body) if float(m["most"]) == high]
    if not found:
        lines = body.strip().splitlines()
        found = [(0, len(body), _value(lines[-1], high) if lines else None)]
    value = _last(body, found, f"{name} from {low:g} to {high:g}", text)
    if not low <= value <= high:
        raise Unreadable(f"the reply's {name} {value:g} is not from {low:g} to {high:g}", text)
    return value


def both(ab: Verdict | Abstained, ba: Verdict | Abstained, on_flip: Literal["tie", "abstain"] = "tie") -> Verdict | Abstained:
    """One judgement of two that were asked with the responses in either order; both are in terms of the pair's a and b.

    Equal choices stay; a tie in one order and a side in the other (or any other two) is a tie. a in one order and b in the other is what
    `on_flip` says: the position decided, not the responses. The strength is the mean where both gave one; what was said in
    each order is kept in `scores["orders"]` (with its own scores under "given", if any) and, as a JSON list, in `raw`; the
    rationale is that of an order which came to the same choice. Where one order abstained, so does the whole.

    Args:
        ab: with a shown first.
        ba: with b shown first.
    """
    if isinstance(ab, Abstained):
        return ab
    if isinstance(ba, Abstained):
        return ba
    if "abstain" in (ab.choice, ba.choice):
        return Abstained("the judge abstained in one of the two orders")
    flipped = {ab.choice, ba.choice} == {"a", "b"}
    if flipped and on_flip == "abstain":
        return Abstained(f"the order decided: {ab.choice} where a was shown first, {ba.choice} where b was")
    agreed: Choice = ab.choice if ab.choice == ba.choice else "tie"
    scores: dict[str, Any] = {"orders": {"ab": ab.choice, "ba": ba.choice}, "flipped": flipped}
    if ab.scores or ba.scores:
        scores["given"] = {"ab": dict(ab.scores), "ba": dict(ba.scores)}
    return Verdict(
        agreed,
        strength=(ab.strength + ba.strength) / 2 if ab.strength is not None and ba.strength is not None else None,
        scores=scores,
        rationale=next((one.rationale for one in (ab, ba) if one.choice == agreed and one.rationale), None),
        shown="both",
        raw=json.dumps([ab.raw, ba.raw], ensure_ascii=False),
        annotator=ab.annotator,
    )


def side(position: str, shown: str = "ab") -> Choice:
    """The side of the pair that a choice by position means: "A" is a where a was shown first, b where b was ("ba")."""
    said = position.casefold()
    if said not in ("a", "b"):
        return "both_bad" if said == "both_bad" else "tie"
    return "a" if (said == "a") == (shown == "ab") else "b"


def conclusion(text: str) -> str:
    """The part of a reply that can hold its verdict: after the last quotation of a fenced text, and after its thinking.

    Raises:
        Unreadable: the reply ends inside its thinking or inside a quotation.
    """
    body = unicodedata.normalize("NFKC", text)
    if body.lstrip().startswith("<think>") and "</think>" not in body:
        raise Unreadable("the reply ends inside its thinking", text)
    ends = list(_END.finditer(body))
    rest = body[ends[-1].end() :] if ends else body
    if _START.search(rest):
        raise Unreadable("the reply quotes a text and does not say where the quotation ends", text)
    return rest.rpartition("</think>")[2]


def _objects(body: str, text: str, fields: Sequence[str]) -> list[tuple[int, int, Any]]:
    """Where each JSON object begins and ends, and what its first field of `fields` holds; objects without one are left out.

    A reply that is meant as JSON and breaks off is unreadable; braces amid prose that are no JSON are prose.
    """
    try:
        values = values_in(body, text)
    except Unreadable:
        if body.lstrip().startswith(("{", "```")):
            raise
        return []
    out = []
    for value, start, end in values:
        if isinstance(value, Mapping):
            lower = {str(key).casefold(): held for key, held in value.items()}
            out += [(start, end, lower[field.casefold()]) for field in fields if field.casefold() in lower][:1]
    return out


def _outside(found: Iterable[tuple[int, int, Any]], marks: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """Marks that no JSON object holds: a verdict that a reason in it quotes is not the verdict."""
    held = [(start, end) for start, end, _ in found]
    return [mark for mark in marks if not any(start <= mark.start() < end for start, end in held)]


def _last(body: str, found: list[tuple[int, int, T | None]], what: str, text: str) -> T:
    """The one thing said in the last line that says anything."""
    last = max(start for start, _, _ in found)
    line = body.rfind("\n", 0, last) + 1
    said = {value for _, end, value in found if end >= line}
    if len(said) > 1:
        raise Unreadable(f"the reply ends with several different answers where one {what} was asked for", text)
    (value,) = said
    if value is None:
        raise Unreadable(f"the reply holds no {what}", text)
    return value


def _named(said: Any, allowed: Iterable[str]) -> str | None:
    """The allowed name that was meant, _NOT_ALLOWED for a verdict that is none of them, None for what is no verdict."""
    if isinstance(said, bool) or not isinstance(said, str | int):
        return None
    plain = _WHO.sub("", str(said).strip(_DRESS).casefold(), count=1)
    spelled = {name.casefold(): name for name in allowed}
    if plain in spelled:
        return spelled[plain]
    if plain in _TIES and "tie" in spelled:
        return spelled["tie"]
    return _NOT_ALLOWED if plain in _ELSE else None


def _value(said: Any, high: float) -> float | None:
    """The finite number that was meant; None where it is none, a span, or of a scale that does not end at `high`."""
    if isinstance(said, int | float) and not isinstance(said, bool):
        return float(said) if math.isfinite(said) else None
    matched = _ONE.fullmatch(said.strip(_DRESS + ",")) if isinstance(said, str) else None
    if not matched or (matched["most"] and float(matched["most"]) != high) or (matched["percent"] and high != 100):
        return None
    return float(matched["value"].replace(",", "."))
