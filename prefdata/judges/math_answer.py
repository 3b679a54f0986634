"""Judge: the final answer against the known one."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from prefdata.core.method import method
from prefdata.core.rows import Abstained, Response, Score

_WORDS = (
    "answer|antwort|ergebnis|réponse|respuesta|resposta|risposta|antwoord|odpowiedź|svar|vastaus|cevap|ответ|відповідь|"
    "答案|答え|答|답|الإجابة|الجواب|उत्तर"
)
_MARKS = (
    re.compile(rf"(?:final\s+)?\b(?:{_WORDS})[*_]*\s*[:\uff1a][*_]*\s*(?P<given>[^\n]+)", re.IGNORECASE),
    re.compile(r"\banswer\s+is:?\s+(?P<given>[^\n]+?)(?=\.\s|\.?$)", re.IGNORECASE | re.MULTILINE),
    re.compile(r"^[ \t]*####\s*(?P<given>[^\n]+)", re.MULTILINE),
)
_NUMBER = re.compile(r"(?<![\w.^])[-+]?\d[\d,.'\u2019]*(?:\s*/\s*\d+)?(?:e[-+]?\d+)?%?", re.IGNORECASE)
_QUANTITY = re.compile(
    r"(?:[a-z]\s*=\s*)?(?P<sign>[-+]?)\s*(?:[$\u20ac£¥₹]|[a-z]{3}\s)?\s*"
    r"(?P<number>[-+]?\d[\d,.'\u2019]*(?:[ \u00a0\u202f]\d{3}(?!\d))*(?:[.,]\d+)?(?:e[-+]?\d+)?)"
    r"(?:(?P<over>\s*/\s*\d+)|\s+(?P<part>\d+\s*/\s*\d+))?\s*(?P<unit>[%°$\u20ac£¥₹]|[^\W\d_][^\d=]{0,30})?",
    re.IGNORECASE,
)


@method(version=1, subject="response")
def math_answer(response: Response, *, tolerance: float = 0.0) -> Score | Abstained:
    """1 where the final answer is that of the prompt's meta {"answer": ...}, else 0; abstains where the prompt has no answer.

    The final answer is what the last of these gives: "Answer: x" (also in other languages), "the answer is x", "#### x",
    \\boxed{x}; else the last number, or the whole text where the known answer is not a number. Numbers are compared as
    exact fractions, whatever their thousands separators, decimal comma, currency or unit (one side may leave the unit out, and
    50 % equals 0.5 and a bare 50); everything else as text, ignoring case, spaces and punctuation at the end.

    Args:
        tolerance: relative difference at which two numbers are still the same.
    """
    known = response.prompt.meta.get("answer")
    if known is None or isinstance(known, bool | list | dict) or not str(known).strip():
        return Abstained("the prompt has no answer")
    expected = str(known)
    given = final_answer(response.text, numeric=quantity(expected) is not None)
    if given is None:
        return Score(0.0, {"correct": False}, f"no final answer found, expected {expected}")
    correct = same(given, expected, tolerance)
    shown = given if len(given) <= 80 else given[:80] + "..."
    return Score(float(correct), {"correct": correct}, f"found {shown}, expected {expected}")


def final_answer(text: str, *, numeric: bool) -> str | None:
    """What a text gives as its last word, or None."""
    marked = [(m.start(), m["given"]) for mark in _MARKS for m in mark.finditer(text)]
    marked += [(at, inside) for at, inside in _boxed(text) if inside.strip()]
    if marked:
        given = max(marked)[1]
        inside = _boxed(given)
        return (inside[-1][1] if inside else given).strip().strip("*_`").strip()
    if not numeric:
        return text.strip() or None
    numbers = _NUMBER.findall(_plain(text))
    return numbers[-1] if numbers else None


def _boxed(text: str) -> list[tuple[int, str]]:
    """Where each \\boxed{...} starts and what it holds, braces matched; in the order in which they close."""
    found = []
    opened: list[re.Match[str]] = []
    for brace in re.finditer(r"\\(?:boxed|fbox)\s*\{|[{}]", text):
        if brace[0] != "}":
            opened.append(brace)
        elif opened and (start := opened.pop())[0] != "{":
            found.append((start.start(), text[start.end() : brace.start()]))
    return found


def same(given: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether two answers are the same number, or the same text."""
    left, right = quantity(given), quantity(expected)
    if left is None or right is None:
        return _letters(given) == _letters(expected)
    (x, unit), (y, other) = left, right
    if "%" in (unit, other) and unit != other and "" in (unit, other):
        return _near(x, y, tolerance) or _near(*((x / 100, y) if unit == "%" else (x, y / 100)), tolerance)
    return _near(x, y, tolerance) and (unit == other or "" in (unit, other))


def _near(x: Fraction, y: Fraction, tolerance: float) -> bool:
    return abs(x - y) <= Fraction(tolerance) * abs(y)


def quantity(text: str) -> tuple[Fraction, str] | None:
    """A number and its unit, or None where the text is anything else."""
    found = _QUANTITY.fullmatch(_plain(text).strip().rstrip(".")) if len(text) <= 100 else None
    if not found:
        return None
    try:
        value = _decimal(found["number"])
        if found["over"]:
            value /= int(found["over"].strip(" /"))
        if found["part"]:
            part = Fraction(found["part"].replace(" ", ""))
            value += -part if value < 0 else part
    except (ValueError, ZeroDivisionError):
        return None
    unit = (found["unit"] or "").strip().casefold()
    return -value if found["sign"] == "-" else value, "" if unit in "$\u20ac£¥₹" else unit


def _decimal(number: str) -> Fraction:
    """Thousands separators out, decimal comma to a point: 1,234.5 = 1.234,5 = 1 234,5; 1,234 is thousands, 1.234 is not."""
    number = re.sub("[ \u00a0\u202f'\u2019]", "", number).rstrip(",")
    if "," in number and "." in number:
        comma_last = number.rfind(",") > number.rfind(".")
        number = number.replace(".", "").replace(",", ".") if comma_last else number.replace(",", "")
    elif re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", number) or re.fullmatch(r"[-+]?\d{1,3}(\.\d{3}){2,}", number):
        number = number.replace(",", "").replace(".", "")
    return Fraction(number.replace(",", "."))


def _plain(text: str) -> str:
    """Digits of any script as 0-9, minus signs as -, LaTeX fractions as a/b, mathematical dress taken off."""
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in unicodedata.normalize("NFKC", text))
    text = text.replace("\u2212", "-").replace("\u2044", "/")
    text = re.sub(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}", r"\1/\2", text)
    text = re.sub(r"(?<!\s)\s*(?:\\times|\\cdot|[×·])\s*10\s*\^\s*\{?\s*(-?\d+)\s*\}?", r"e\1", text)
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text)
    return re.sub(r"\\[$%,;! ]|\\\(|\\\)|\\left|\\right|(?<!\d)\$(?=[^\d])|\$$", lambda m: m[0][1:] if m[0] in ("\\$", "\\%") else "", text)


def _letters(text: str) -> str:
    """Text for comparison: no case, no spaces, no brackets or quotes around, no punctuation at the end."""
    plain = re.sub(r"\s+", "", _plain(text)).casefold().strip("*_`$")
    plain = plain.rstrip(".!,;\u3002")
    wrapped = re.fullmatch(r"[(\"'\u201c]([^()\"']*)[)\"'\u201d]", plain)
    return wrapped[1] if wrapped else plain
