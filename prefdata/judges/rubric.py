"""Judge: one response graded by a rubric, a file of weighted criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from prefdata.core.errors import PrefdataError, Unreadable
from prefdata.core.judging import fields_in, grade, mean, question, rationale, read, schema, talk, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Response, Score
from prefdata.core.templates import fence, load

FORM = "scale: [1, 5] and criteria: a list of {name, meaning, weight (optional), levels (optional): {1: ..., 5: ...}}"


@dataclass(frozen=True)
class Rubric:
    """A rubric file, checked."""

    low: float
    high: float
    weights: Mapping[str, float]
    text: str


@method(
    version=1,
    subject="response",
    paper="grading by a rubric; Prometheus, arXiv:2310.08491; the counselling pack follows PsychoCounsel-Preference, arXiv:2502.19731",
    prompt_file=(
        "prompts/rubric.txt",
        "prompts/rubric_reply.txt",
        "prompts/rubric_general.yaml",
        "prompts/rubric_code.yaml",
        "prompts/rubric_writing.yaml",
        "prompts/rubric_counselling.yaml",
        "prompts/common.txt",
    ),
    calls="1",
)
async def rubric(
    response: Response,
    ask: Ask,
    *,
    pack: Literal["general", "code", "writing", "counselling"] = "general",
    file: Path | None = None,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1536,
) -> Score | Abstained:
    """The weighted mean of a response's grades on the criteria of a rubric.

    The grades stand in scores under the criteria's names; a criterion that made no sense for the conversation is null and
    not in the mean. The scale is the rubric's.

    Args:
        pack: a rubric that comes with prefdata; they lie in prefdata/judges/prompts/rubric_*.yaml.
        file: a rubric of your own in its place, YAML or JSON: scale: [1, 5] and criteria, a list of name, meaning, weight
            (1 where none is given) and levels (number -> what it takes).
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {response} and {criteria}, and, if you want our
            words there, {low}, {high}, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    held = parse(load(__file__, f"prompts/rubric_{pack}.yaml", file), str(file or pack))
    tail = "_json" if structured else ""
    wanted = ["reasons" + tail] if reasons else [] if structured else ["no_reasons"]
    example = '{"grades": {' + ", ".join(f'"{name}": N' for name in held.weights) + "}}"
    scale = {"low": f"{held.low:g}", "high": f"{held.high:g}"}
    messages = question(
        load(__file__, "prompts/rubric.txt", template),
        conversation=talk(response.prompt),
        response=fence(response.text, "response"),
        criteria=held.text,
        material=words(load(__file__, "prompts/common.txt"), "material"),
        answer=words(load(__file__, "prompts/rubric_reply.txt"), *wanted, "grades" + tail, example=example, **scale),
        **scale,
    )
    extra: dict[str, Any] = {"response_format": _schema(held, reasons)} if structured else {}
    reply = await ask(messages, temperature=temperature, max_tokens=max_tokens, **extra)
    grades = read(reply, lambda text: _grades(text, held))
    value = mean(grades, held.weights)
    if value is None:
        return Abstained("no criterion of the rubric made sense for this conversation")
    said = rationale(reply.text) if reasons else None
    return Score(value, {**grades, "scale": [held.low, held.high]}, said, reply.text)


def _grades(text: str, held: Rubric) -> dict[str, float | None]:
    """The grade of every criterion; one that the reply leaves out makes it unreadable."""
    given = fields_in(text).get("grades")
    if not isinstance(given, Mapping):
        raise Unreadable("the reply's JSON has no grades", text)
    plain = {str(key).strip().casefold(): value for key, value in given.items()}
    missing = [name for name in held.weights if name.casefold() not in plain]
    if missing:
        raise Unreadable(f"the reply does not grade {missing[0]!r}", text)
    return {name: grade(plain[name.casefold()], held.low, held.high, f"grade of {name!r}", text) for name in held.weights}


def _schema(held: Rubric, reasons: bool) -> dict[str, Any]:
    each = {name: {"type": ["number", "null"]} for name in held.weights}
    grades = {"type": "object", "properties": each, "required": list(each), "additionalProperties": False}
    return schema("grades", {**({"reasons": {"type": "string"}} if reasons else {}), "grades": grades})


@lru_cache(maxsize=16)
def parse(text: str, name: str) -> Rubric:
    """Read a rubric file.

    Raises:
        PrefdataError: it is not of the form that `FORM` tells.
    """

    def refuse(why: str) -> PrefdataError:
        return PrefdataError(f"the rubric {name!r} {why}; it must hold {FORM}.")

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise refuse(f"is neither YAML nor JSON ({' '.join(str(error).split())})") from None
    criteria = data.get("criteria") if isinstance(data, dict) else None
    if not isinstance(criteria, list) or not criteria or not all(isinstance(one, dict) for one in criteria):
        raise refuse("has no list of criteria")
    scale = data.get("scale", [1, 5])
    if not isinstance(scale, list) or len(scale) != 2 or not all(map(_finite, scale)) or scale[0] >= scale[1]:
        raise refuse(f"has the scale {scale!r}, which is not two numbers, the worst and the best")
    weights: dict[str, float] = {}
    lines = []
    for one in criteria:
        label, meaning, weight, levels = one.get("name"), one.get("meaning"), one.get("weight", 1), one.get("levels") or {}
        if not isinstance(label, str) or not label.strip() or label in weights:
            raise refuse(f"has a criterion with the name {label!r}, where each needs one of its own")
        if not isinstance(meaning, str) or not isinstance(levels, dict):
            raise refuse(f"does not say what {label!r} means")
        if not _finite(weight) or weight <= 0:
            raise refuse(f"gives {label!r} the weight {weight!r}, which is not a number above 0")
        weights[label] = float(weight)
        lines += [f"- {label}: {meaning}", *(f"  {level}: {words}" for level, words in levels.items())]
    return Rubric(scale[0], scale[1], weights, "\n".join(lines))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
