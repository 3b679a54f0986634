"""What judges that ask a language model share: how a question is put together, asked in both orders, and its reply read.

A question is made from a prompt file (`templates.py`) in which everything that others wrote stands in fences; a reply is
read by `verdicts.py`. Wherever a server can hold a model to a JSON schema, `structured` asks it to.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

from prefdata.core.errors import Stopped, UnknownName, Unreadable
from prefdata.core.jsons import parse_json, values_in
from prefdata.core.protocols import Ask, Reply
from prefdata.core.rows import Abstained, Pair, Prompt, Response, Score, Verdict
from prefdata.core.templates import conversation, fence, fill, sections
from prefdata.core.verdicts import both, choice, conclusion, number, side

T = TypeVar("T")
Order = Literal["ab", "ba"]
ORDERS: tuple[Order, Order] = ("ab", "ba")
ROLES = ("system", "user")
"""Parts of a prompt file that are sent, in this order."""
OPTIONAL = ("material", "answer", "low", "high", "known", "count")
"""Places that a user's own prompt file may leave out."""
TOP_LOGPROBS = 20
"""Alternatives asked for at a token; the most that OpenAI's API gives."""
_MARK = re.compile(r"\\?\[\\?\[[^\[\]\n]{1,40}\\?\]\\?\]")
_WORD = r"(?:(?:my |the )?final )?(?:verdict|choice|answer|decision|score|rating|ranking)"
_LABEL = re.compile(rf"(?:```\w*|(?:^|\n)[*_# ]*{_WORD}[*_ ]*|[*_# ]*(?:\bmy )?\b{_WORD}[*_ ]*[:=][*_]*)\s*\Z", re.IGNORECASE)
"""What may stand between the reasons and the verdict: a label on its own line or with a colon, the start of a code block."""
_LABELLED = 80
"""Characters at the end of the reasons in which such a label is looked for."""
_NONE = ("", "n/a", "na", "none", "null")
_AFTER = "` \t\r\n.*_"
_LONGEST_LAST = 40


def question(template: str, /, **fields: str) -> list[dict[str, str]]:
    """The messages of a prompt file, its places filled.

    Args:
        template: text with the parts `### system` and `### user`, or without parts: all user.
        fields: place -> text; places named in `OPTIONAL` may be missing from the template.

    Raises:
        PrefdataError: a place without a field, a field without a place, or a part that is never sent.
    """
    parts = sections(template)
    for name in parts:
        if name not in ROLES:
            raise UnknownName("part", f"### {name}", (f"### {role}" for role in ROLES), " of the prompt file")
    whole = "\n".join(parts.values())
    given = {name: text for name, text in fields.items() if name not in OPTIONAL or _holds(whole, name)}
    fill(whole, **given)  # says what does not fit, looking at all parts together
    return [
        {"role": role, "content": fill(parts[role], **{name: text for name, text in given.items() if _holds(parts[role], name)})}
        for role in ROLES
        if role in parts
    ]


def talk(prompt: Prompt) -> str:
    """The whole conversation of a prompt, fenced."""
    return fence(conversation(prompt.messages), "conversation")


def in_meta(prompt: Prompt, field: str) -> list[str]:
    """The texts and numbers that a prompt's meta holds under `field`, one or a list of them; none where there is nothing."""
    held = prompt.meta.get(field)
    several = held if isinstance(held, list | tuple) else [held]
    return [str(one).strip() for one in several if isinstance(one, str | int | float) and not isinstance(one, bool) and str(one).strip()]


@lru_cache(maxsize=32)
def _parts(text: str) -> Mapping[str, str]:
    return sections(text)


def words(common: str, *names: str, **fields: str | int | float) -> str:
    """Parts of the file that judges share, filled and joined; a field may be missing from a part."""
    parts = _parts(common)
    return "\n".join(fill(parts[name], **{k: v for k, v in fields.items() if _holds(parts[name], k)}) for name in names)


def schema(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """`response_format` for one JSON object with exactly these fields, in this order (OpenAI's json_schema; vLLM, SGLang)."""
    body = {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": body}}


async def together(asked: Sequence[Awaitable[T]]) -> list[T]:
    """All results in order. Where some raise, the first exception is raised once all have ended: what was paid is booked."""
    ended = await asyncio.gather(*asked, return_exceptions=True)
    raised = [one for one in ended if isinstance(one, BaseException)]
    for one in (*(r for r in raised if isinstance(r, Stopped)), *raised):
        raise one
    return [one for one in ended if not isinstance(one, BaseException)]


def read(reply: Reply, how: Callable[[str], T]) -> T:
    """What `how` reads in a reply; that an unreadable one was cut off is said."""
    try:
        return how(reply.text)
    except Unreadable as error:
        if reply.finish == "length":
            raise Unreadable(f"{error.words} (it was cut off; raise max_tokens)", error.raw) from None
        raise


def fields_in(text: str) -> dict[str, Any]:
    """The JSON object that a reply concludes with, its keys in small letters; raises Unreadable where there is none."""
    value = parse_json(conclusion(text))
    if not isinstance(value, Mapping):
        raise Unreadable("the reply holds no JSON object", text)
    return {str(key).casefold(): held for key, held in value.items()}


def grade(said: Any, low: float, high: float, what: str, text: str) -> float | None:
    """A number in [low, high] that stands in a reply's JSON, or None for null and "N/A"; anything else raises Unreadable."""
    if said is None or (isinstance(said, str) and said.strip().casefold() in _NONE):
        return None
    try:
        value = float(said) if isinstance(said, int | float | str) and not isinstance(said, bool) else math.nan
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise Unreadable(f"the reply's {what} is {said!r} and not a number from {low:g} to {high:g}", text)
    return value


def mean(given: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Sum of weight x number / sum of |weight| over what is not None; None where no weight is left."""
    held = [(value, weights[name]) for name, value in given.items() if value is not None]
    total = sum(abs(weight) for _, weight in held)
    return sum(value * weight for value, weight in held) / total if total else None


def rationale(text: str) -> str | None:
    """The reasons in a reply: its JSON field `reasons`, or what stands before the closing verdict; None where there is nothing."""
    body = text.rpartition("</think>")[2].strip()
    try:
        found: list[tuple[Any, int, int]] = [one for one in values_in(body, body) if isinstance(one[0], Mapping)]
    except Unreadable:
        found = []
    found += [(None, mark.start(), mark.end()) for mark in _MARK.finditer(body)]
    value, start, end = max(found, key=lambda one: one[2], default=(None, 0, 0))
    if isinstance(value, Mapping) and isinstance(value.get("reasons"), str):
        return value["reasons"].strip() or None
    if found and not body[end:].strip(_AFTER):
        body = body[:start]
    elif not found:  # the verdict is the last line, or a short end of it
        first, _, last = body.rpartition("\n")
        body = first if len(last) <= _LONGEST_LAST else body
    before = ""
    while before != body:
        before = body
        body = body[:-_LABELLED] + _LABEL.sub("", body[-_LABELLED:]).rstrip()
    return body.strip() or None


@dataclass(frozen=True)
class Comparison:
    """One way of asking which of two responses is better.

    Args:
        template: a prompt file with the places conversation, response_a, response_b and those of `fields`.
        common: the text of the parts that judges share.
        sampling: what every call is asked with.
        reasons: whether the model reasons before it decides; what it wrote becomes the rationale.
        ties: whether "tie" is allowed.
        levels: how many degrees of better there are; 1 asks for none, 2 or 3 give a strength.
        structured: hold the model to a JSON schema.
        fields: further places and their texts.
        noted: what every verdict says in its scores.
    """

    template: str
    common: str
    sampling: Mapping[str, Any]
    reasons: bool = True
    ties: bool = True
    levels: int = 1
    structured: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, Any] = field(default_factory=dict)

    def messages(self, pair: Pair, order: Order = "ab", answer: str = "", **more: str) -> list[dict[str, str]]:
        """The question with a shown first ("ab") or b ("ba"); `answer` in place of our own words on how to answer."""
        first, second = (pair.a, pair.b) if order == "ab" else (pair.b, pair.a)
        return question(
            self.template,
            conversation=talk(pair.prompt),
            response_a=fence(first.text, "response_a"),
            response_b=fence(second.text, "response_b"),
            material=words(self.common, "material"),
            answer=answer or self._answer(),
            **self.fields,
            **more,
        )

    def _answer(self) -> str:
        tail = "_json" if self.structured else ""
        names = ["reasons" + tail] if self.reasons else [] if self.structured else ["no_reasons"]
        names.append(("choice" if self.ties else "choice_no_tie") + tail)
        if self.levels > 1:
            names.append(f"strength_{self.levels}{tail}")
        return words(self.common, *names)

    def _format(self) -> dict[str, Any]:
        if not self.structured:
            return {}
        properties: dict[str, Any] = {"reasons": {"type": "string"}} if self.reasons else {}
        properties["choice"] = {"type": "string", "enum": ["A", "B", "tie"] if self.ties else ["A", "B"]}
        if self.levels > 1:
            properties["strength"] = {"type": "integer", "enum": list(range(1, self.levels + 1))}
        return {"response_format": schema("verdict", properties)}

    async def once(self, ask: Ask, pair: Pair, order: Order = "ab", *, sample: int = 0, **more: str) -> Verdict:
        """The verdict in one order, in terms of the pair's a and b."""
        reply = await ask(self.messages(pair, order, **more), sample=sample, **self.sampling, **self._format())
        return read(reply, lambda text: self._verdict(text, order))

    async def letter(self, ask: Ask, pair: Pair, order: Order = "ab") -> tuple[float, str]:
        """P(a better) from the log-probabilities of the letters A and B in a one-letter reply, and that reply."""
        sampling = {**self.sampling, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        reply = await ask(self.messages(pair, order, words(self.common, "letter")), **sampling)
        p = first_is_better(reply)
        return p if order == "ab" else 1 - p, reply.text

    def _verdict(self, text: str, order: Order) -> Verdict:
        chosen = side(choice(text, ("A", "B", "tie") if self.ties else ("A", "B")), order)
        strength = None
        if self.levels > 1:
            sign = {"a": 1, "b": -1}.get(chosen, 0)
            strength = sign * number(text, 1, self.levels, "strength") / self.levels if sign else 0.0
        said = rationale(text) if self.reasons else None
        if said and order == "ba":
            said = f"(b was shown as response A, a as response B) {said}"
        return Verdict(chosen, strength, rationale=said, shown=order, raw=text)

    async def judge(
        self, ask: Ask, pair: Pair, both_orders: bool = True, on_flip: Literal["tie", "abstain"] = "tie"
    ) -> Verdict | Abstained:
        """The verdict of one model, asked in one order or in both; two equal texts are a tie that nobody is asked about."""
        if (same := same_text(pair)) is not None:
            return same
        ab, *ba = await together([self.once(ask, pair, order) for order in (ORDERS if both_orders else ORDERS[:1])])
        given = both(ab, ba[0], on_flip) if ba else ab
        return given if isinstance(given, Abstained) else replace(given, scores={**given.scores, **self.noted})

    async def juror(self, ask: Ask, pair: Pair, name: str, both_orders: bool, on_flip: Literal["tie", "abstain"]) -> Verdict:
        """The verdict of one among several; one that is withheld because the order decided is `abstain`, with both replies kept."""
        given = await self.judge(ask, pair, both_orders)
        assert isinstance(given, Verdict)
        if on_flip == "abstain" and given.scores.get("flipped"):
            given = replace(given, choice="abstain", strength=None)
        return replace(given, annotator=name)


def first_is_better(reply: Reply) -> float:
    """P(A) / (P(A) + P(B)) at the first token of a reply that is one of the letters; their spellings ("A", " A") are added up.

    Raises:
        Unreadable: no token is one of them, or the server gave no log-probabilities.
    """
    for token in (reply.logprobs or {}).get("content") or ():
        if token["token"].strip() not in ("A", "B"):
            continue
        found = {one["token"]: one["logprob"] for one in (token, *(token.get("top_logprobs") or ()))}
        a, b = (sum(math.exp(logprob) for said, logprob in found.items() if said.strip() == letter) for letter in "AB")
        if a + b:
            return a / (a + b)
    what = "no log-probability of A or B" if reply.logprobs else "no log-probabilities; take a model whose server gives them"
    raise Unreadable(f"the reply has {what}", reply.text)


def same_text(pair: Pair) -> Verdict | None:
    """The tie of two responses that are the same text; None where they differ."""
    if pair.a.text != pair.b.text:
        return None
    return Verdict("tie", 0.0, {"same_text": True}, "Both responses are the same text.")


@dataclass(frozen=True)
class Rating:
    """One way of asking for a number.

    Args:
        template: a prompt file.
        common: the text of the parts that judges share.
        sampling: what every call is asked with.
        low: worst number.
        high: best number.
        reasons: whether the model reasons before it decides.
        structured: hold the model to a JSON schema.
    """

    template: str
    common: str
    sampling: Mapping[str, Any]
    low: float
    high: float
    reasons: bool = True
    structured: bool = False

    async def of(self, ask: Ask, response: Response, **fields: str) -> Score:
        """The score of a response, with the scale in `scores`."""
        tail = "_json" if self.structured else ""
        names = [("reasons_one" if not self.structured else "reasons_json")] if self.reasons else [] if self.structured else ["no_reasons"]
        properties: dict[str, Any] = {"reasons": {"type": "string"}} if self.reasons else {}
        properties["score"] = {"type": "number"}
        extra: dict[str, Any] = {"response_format": schema("rating", properties)} if self.structured else {}
        messages = question(
            self.template,
            conversation=talk(response.prompt),
            response=fence(response.text, "response"),
            low=f"{self.low:g}",
            high=f"{self.high:g}",
            material=words(self.common, "material"),
            answer=words(self.common, *names, "score" + tail, low=f"{self.low:g}", high=f"{self.high:g}"),
            **fields,
        )
        reply = await ask(messages, **self.sampling, **extra)
        value = read(reply, lambda text: number(text, self.low, self.high))
        return Score(value, {"scale": [self.low, self.high]}, rationale(reply.text) if self.reasons else None, reply.text)


def _holds(text: str, name: str) -> bool:
    return re.search(rf"(?<!\{{)\{{{name}\}}(?!\}})", text) is not None
