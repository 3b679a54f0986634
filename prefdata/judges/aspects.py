"""Judge: all responses of a prompt rated side by side on several aspects."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prefdata.core.errors import BadValue, UnknownName, Unreadable
from prefdata.core.judging import fields_in, grade, in_meta, mean, question, rationale, read, schema, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Group, Judged, Response, Score
from prefdata.core.templates import fence, load


@dataclass(frozen=True)
class _Rated:
    """What one call gave, in the order in which the responses were shown."""

    names: Sequence[str]
    shown: Sequence[Response]
    ratings: Sequence[Mapping[str, float | None]]
    said: str | None
    raw: str


@method(
    version=1,
    subject="prompt",
    paper="UltraFeedback, arXiv:2310.01377; the attributes of HelpSteer2, arXiv:2406.08673",
    prompt_file=("prompts/aspects.txt", "prompts/aspects_reply.txt", "prompts/aspects.yaml", "prompts/common.txt"),
    calls="len(names) if per_aspect else 1",
)
async def aspects(
    group: Group,
    ask: Ask,
    seed: int,
    *,
    names: tuple[str, ...] = ("instruction_following", "honesty", "truthfulness", "helpfulness"),
    weights: Mapping[str, float] = {},
    low: int = 1,
    high: int = 5,
    per_aspect: bool = True,
    known: str = "reference",
    file: Path | None = None,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 2048,
) -> list[Judged] | Abstained:
    """A score per response: the mean of its ratings on several aspects, given to all responses of the prompt side by side.

    The responses are shuffled by the seed, anew for every call. The ratings stand in scores under the aspects' names (null
    where an aspect made no sense, and then not in the mean), the positions in scores.shown. HelpSteer2 is names:
    [helpfulness, correctness, coherence, complexity, verbosity], low: 0, high: 4, with weights, since more complexity or
    verbosity is not better.

    Args:
        names: aspects to rate. Known: instruction_following, honesty, truthfulness, helpfulness, correctness, coherence,
            complexity, verbosity, explanation, efficiency, readability, style, harmlessness.
        weights: aspect -> weight in the score, sum of weight x rating / sum of |weight|; 1 where none is given.
        low: worst rating.
        high: best rating.
        per_aspect: one call for each aspect, as in UltraFeedback; else one call for all, which costs less and lets one
            aspect colour the others.
        known: field of the prompt's meta with what is known to be right; shown to the model where there is such a field.
        file: a YAML file of your own, aspect -> what it means; adds to the known ones or replaces them.
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {responses} and {aspects}, and, if you want our
            words there, {count}, {known}, {low}, {high}, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    meanings = _meanings(load(__file__, "prompts/aspects.yaml"), file)
    _check(names, weights, meanings, low, high)
    common, reply_parts = load(__file__, "prompts/common.txt"), load(__file__, "prompts/aspects_reply.txt")
    facts = "\n\n".join(fence(text, "known") for text in in_meta(group.prompt, known)) or "Nothing beyond the conversation."

    async def rate(asked: Sequence[str]) -> _Rated:
        shown = random.Random(f"{seed}:{group.id}:{','.join(asked)}").sample(group.responses, len(group.responses))
        tail = "_json" if structured else ""
        wanted = ["reasons" + tail] if reasons else [] if structured else ["no_reasons"]
        messages = question(
            load(__file__, "prompts/aspects.txt", template),
            conversation=talk(group.prompt),
            known=facts,
            count=str(len(shown)),
            responses="\n\n".join(fence(response.text, f"response_{at}") for at, response in enumerate(shown, 1)),
            aspects="\n".join(f"- {name}: {meanings[name]}" for name in asked),
            low=str(low),
            high=str(high),
            material=words(common, "material"),
            answer=words(reply_parts, *wanted, "ratings" + tail, low=low, high=high, example=_example(asked, len(shown))),
        )
        extra: dict[str, Any] = {"response_format": _schema(asked, len(shown), reasons)} if structured else {}
        reply = await ask(messages, temperature=temperature, max_tokens=max_tokens, **extra)
        ratings = read(reply, lambda text: _ratings(text, asked, len(shown), low, high))
        return _Rated(asked, shown, ratings, rationale(reply.text) if reasons else None, reply.text)

    rated = await together([rate(asked) for asked in ([(name,) for name in names] if per_aspect else [names])])
    everything = {**dict.fromkeys(names, 1.0), **weights}
    judged = [_judged(response, rated, everything, [low, high]) for response in group.responses]
    return [one for one in judged if one is not None] or Abstained("no aspect made sense for any response")


def _judged(response: Response, rated: Sequence[_Rated], weights: Mapping[str, float], scale: list[int]) -> Judged | None:
    """The score of one response; None where no aspect made sense for it."""
    given: dict[str, float | None] = {}
    places: dict[str, int] = {}
    said = []
    for call in rated:
        at = next(n for n, shown in enumerate(call.shown) if shown is response)
        given |= call.ratings[at]
        places |= dict.fromkeys(call.names, at + 1)
        if call.said:
            said.append(f"{', '.join(call.names)} (shown as response {at + 1}): {call.said}")
    value = mean(given, weights)
    if value is None:
        return None
    raw = rated[0].raw if len(rated) == 1 else json.dumps([call.raw for call in rated], ensure_ascii=False)
    return Judged(response, Score(value, {**given, "scale": scale, "shown": places}, "\n\n".join(said) or None, raw))


def _ratings(text: str, names: Sequence[str], count: int, low: float, high: float) -> list[dict[str, float | None]]:
    """The ratings in a reply, response by response as shown; each of them has to be there for every aspect."""
    held = fields_in(text).get("ratings")
    if not isinstance(held, Mapping):
        raise Unreadable("the reply's JSON has no ratings by response", text)
    by_number: dict[int, Any] = {}
    for key, rating in held.items():
        number = re.search(r"\d+", str(key))
        by_number[int(number[0]) if number else 0] = rating
    if set(by_number) != set(range(1, count + 1)) or len(by_number) != len(held):
        raise Unreadable(f"the reply rates {', '.join(map(str, held)) or 'nothing'} where {count} responses were asked about", text)
    out = []
    for at in range(1, count + 1):
        rating = by_number[at]
        if not isinstance(rating, Mapping):
            if len(names) > 1:
                raise Unreadable(f"the reply gives response {at} no rating for each aspect", text)
            rating = {names[0]: rating}
        plain = {re.sub(r"\W+", "_", str(key).strip().casefold()): value for key, value in rating.items()}
        missing = [name for name in names if name.casefold() not in plain]
        if missing:
            raise Unreadable(f"the reply does not rate response {at} on {missing[0]}", text)
        out.append({name: grade(plain[name.casefold()], low, high, f"rating of response {at} on {name}", text) for name in names})
    return out


def _example(names: Sequence[str], count: int) -> str:
    each = ", ".join(f'"{name}": N' for name in names)
    return '{"ratings": {' + ", ".join(f'"{number}": {{{each}}}' for number in range(1, count + 1)) + "}}"


def _schema(names: Sequence[str], count: int, reasons: bool) -> dict[str, Any]:
    def exactly(properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    each = exactly({name: {"type": ["number", "null"]} for name in names})
    first = {"reasons": {"type": "string"}} if reasons else {}
    return schema("ratings", {**first, "ratings": exactly({str(number): each for number in range(1, count + 1)})})


def _meanings(ours: str, file: Path | None) -> dict[str, str]:
    theirs = yaml.safe_load(load(__file__, "", file)) if file else {}
    if not isinstance(theirs, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in theirs.items()):
        raise BadValue("aspects: file", str(file), "a YAML file with lines such as  wit: How funny the response is. Lowest where ...")
    return {**yaml.safe_load(ours), **theirs}


def _check(names: Sequence[str], weights: Mapping[str, float], meanings: Mapping[str, str], low: int, high: int) -> None:
    if not names or len(set(names)) < len(names):
        raise BadValue("aspects: names", list(names), "one or more aspects, each once")
    if low >= high:
        raise BadValue("aspects: low", low, f"a number below high ({high})")
    for name in names:
        if name not in meanings:
            raise UnknownName("aspect", name, meanings)
    for name in weights:
        if name not in names:
            raise UnknownName("aspect", name, names, " among the weights")
    if not any({**dict.fromkeys(names, 1.0), **weights}.values()):
        raise BadValue("aspects: weights", dict(weights), "at least one that is not 0")
