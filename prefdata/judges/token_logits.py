"""Judge: how probable a model finds it that one response is better, from the first token of its answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefdata.core.errors import BadValue, PrefdataError, Unreadable
from prefdata.core.judging import TOP_LOGPROBS, question, same_text, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Reply
from prefdata.core.rows import Choice, Pair, Verdict
from prefdata.core.templates import fence, load
from prefdata.core.verdicts import choice

Order = Literal["ab", "ba"]
_DRESS = " \t\r\n*_`'\"([{:."
_TOKENS = 4
"""Asked for, so that a blank or an opening mark before the letter does no harm."""


@dataclass(frozen=True)
class _Asked:
    """Probabilities of one order, in terms of the pair's a and b, adding up to 1."""

    order: Order
    a: float
    b: float
    tie: float
    mass: float
    uncertainty: float
    raw: dict[str, Any]

    @property
    def first(self) -> float:
        """Of the response that was shown first."""
        return self.a if self.order == "ab" else self.b


@method(
    version=1,
    subject="pair",
    paper="PairS, arXiv:2403.16950; averaging over both orders as in ZEPO, arXiv:2406.11370",
    prompt_file=("prompts/token_logits.txt", "prompts/token_logits_letter.txt", "prompts/common.txt"),
    calls="max(1, samples) * (2 if both_orders else 1)",
)
async def token_logits(
    pair: Pair,
    ask: Ask,
    *,
    both_orders: bool = True,
    ties: bool = False,
    margin: float = 0.0,
    least_mass: float = 0.05,
    samples: int = 0,
    temperature: float = 1.0,
    template: Path | None = None,
) -> Verdict:
    """P(a better) from the log-probabilities of the letters A and B in a one-letter answer; strength = P(a) - P(b).

    Works with any model whose server gives log-probabilities of alternatives (OpenAI, vLLM, SGLang, local transformers); for others,
    `samples` answers are drawn and their shares taken. A letter's spellings ("A", " A") are added up, and the probabilities
    divided by their sum. Both orders are averaged, which cancels a model's bias to a position; that bias, mean P(first shown) -
    1/2, stands in scores.position_bias, with p_a, p_b and p_tie, the letters' share of all probability before division (mass)
    and their entropy -(p_a ln p_a + p_b ln p_b) before division, nats (uncertainty). Responses of the same text are a tie.

    Args:
        both_orders: ask twice, with either response first.
        ties: offer a third letter, C, for responses that are equally good.
        margin: |P(a) - P(b)| up to which the verdict is a tie.
        least_mass: share of all probability that the letters must hold; with less the model did not answer the question, and the
            row fails.
        samples: answers drawn for each order instead of reading log-probabilities; 0 reads those.
        temperature: of the draws.
        template: a prompt file of your own with the places {conversation}, {response_a} and {response_b}, and, if you want our
            words there, {material} and {answer}.
    """
    for name, value, good, allowed in (
        ("margin", margin, 0 <= margin < 1, "a number from 0 to below 1"),
        ("least_mass", least_mass, 0 <= least_mass <= 1, "a share from 0 to 1"),
        ("samples", samples, samples >= 0, "a whole number from 0"),
    ):
        if not good:
            raise BadValue(f"token_logits: {name}", value, allowed)
    if (same := same_text(pair)) is not None:
        return same
    letters = ("A", "B", "C") if ties else ("A", "B")
    file, common = load(__file__, "prompts/token_logits.txt", template), load(__file__, "prompts/common.txt")
    answer = words(load(__file__, "prompts/token_logits_letter.txt"), "three" if ties else "two")

    async def once(order: Order) -> _Asked:
        first, second = (pair.a, pair.b) if order == "ab" else (pair.b, pair.a)
        messages = question(
            file,
            conversation=talk(pair.prompt),
            response_a=fence(first.text, "response_a"),
            response_b=fence(second.text, "response_b"),
            material=words(common, "material"),
            answer=answer,
        )
        if samples:
            asked = [ask(messages, sample=n, temperature=temperature, max_tokens=_TOKENS) for n in range(samples)]
            drawn = await together(asked)
            return _asked(order, _shares(drawn, letters), {"replies": [reply.text for reply in drawn]}, 0.0)
        reply = await ask(messages, temperature=0.0, max_tokens=_TOKENS, logprobs=True, top_logprobs=TOP_LOGPROBS)
        found, listed = _first_letter(reply, letters)
        return _asked(order, found, {"reply": reply.text, "token": listed}, least_mass)

    return _verdict(await together([once("ab"), once("ba")] if both_orders else [once("ab")]), margin, ties)


def _first_letter(reply: Reply, letters: tuple[str, ...]) -> tuple[dict[str, float], dict[str, float]]:
    """Probability of each letter at the answer's first token that is no blank or mark, and all that was listed there."""
    content = (reply.logprobs or {}).get("content") if isinstance(reply.logprobs, Mapping) else None
    if not content:
        raise PrefdataError(
            f"the model {reply.model!r} gave no log-probabilities; take a server that gives them, or set  samples: 5  to draw answers "
            "and take their shares."
        )
    for place in content:
        if not place["token"].strip(_DRESS):
            continue
        top = {one["token"]: float(one["logprob"]) for one in (place, *(place.get("top_logprobs") or ()))}
        return {
            letter: sum(math.exp(logprob) for token, logprob in top.items() if token.strip(_DRESS) == letter) for letter in letters
        }, top
    raise Unreadable("the answer is blank", reply.text)


def _shares(replies: list[Reply], letters: tuple[str, ...]) -> dict[str, float]:
    """How often each letter was the answer; one answer that cannot be read fails the row."""
    said = [choice(reply.text, letters) for reply in replies]
    return {letter: said.count(letter) / len(said) for letter in letters}


def _asked(order: Order, found: Mapping[str, float], raw: dict[str, Any], least: float) -> _Asked:
    mass = sum(found.values())
    if not mass or mass < least:
        raise Unreadable(f"the letters {', '.join(found)} hold {mass:.4f} of the probability, less than {least:g}", json.dumps(raw))
    a, b = (found["A"], found["B"]) if order == "ab" else (found["B"], found["A"])
    uncertainty = -sum(p * math.log(p) for p in (a, b) if p > 0)
    return _Asked(order, a / mass, b / mass, found.get("C", 0.0) / mass, mass, uncertainty, {"order": order, **raw})


def _verdict(asked: list[_Asked], margin: float, ties: bool) -> Verdict:
    count = len(asked)
    a, b, tie = (sum(getattr(one, name) for one in asked) / count for name in ("a", "b", "tie"))
    scores: dict[str, Any] = {
        "p_a": a, "p_b": b, **({"p_tie": tie} if ties else {}), "mass": sum(one.mass for one in asked) / count,
        "uncertainty": sum(one.uncertainty for one in asked) / count,
    }  # fmt: skip
    if count == 2:
        orders = {one.order: _decided(one.a, one.b, one.tie, margin) for one in asked}
        flipped = set(orders.values()) == {"a", "b"}
        scores |= {"position_bias": sum(one.first for one in asked) / 2 - 0.5, "orders": orders, "flipped": flipped}
    shown = "both" if count == 2 else asked[0].order
    return Verdict(_decided(a, b, tie, margin), a - b, scores, shown=shown, raw=json.dumps([one.raw for one in asked]))


def _decided(a: float, b: float, tie: float, margin: float) -> Choice:
    if abs(a - b) <= margin or tie > max(a, b):
        return "tie"
    return "a" if a > b else "b"
