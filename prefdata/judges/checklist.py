"""Judge: yes-or-no questions written for each prompt, and the share of them that a response meets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import fields_in, in_meta, question, rationale, read, schema, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Reply
from prefdata.core.rows import Response, Score
from prefdata.core.templates import fence, load

_TEXTS = {"type": "array", "items": {"type": "string"}}
_YES = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


@method(
    version=1,
    subject="response",
    paper="TICK, arXiv:2410.03608",
    prompt_file=("prompts/checklist_write.txt", "prompts/checklist_answer.txt", "prompts/checklist_reply.txt", "prompts/common.txt"),
    calls="1 + (most if one_by_one else 1)",
)
async def checklist(
    response: Response,
    ask: Ask,
    writer: Ask | None = None,
    *,
    field: str = "checklist",
    most: int = 8,
    one_by_one: bool = False,
    reasons: bool = True,
    structured: bool = False,
    writer_template: Path | None = None,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1536,
) -> Score:
    """The share of a prompt's yes-or-no questions that a response meets, from 0 to 1.

    The questions are written from the prompt alone, once for all its responses (the call cache keeps them), unless the
    prompt's meta holds some. They stand in scores.checklist with their answers, and the rationale begins with those that are
    not met. The recipe may hand in a model of its own for writing them: {ask: judge, writer: other}.

    Args:
        field: of the prompt's meta, with a list of questions that are taken instead of written.
        most: longest checklist that is written; what goes beyond it is not asked.
        one_by_one: a call for each question, which keeps the answers apart; else one call for all.
        reasons: let the model reason first and keep that in the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        writer_template: a prompt file of your own for writing with the places {conversation} and {most}, and, if you want our
            words there, {material}.
        template: a prompt file of your own for answering with the places {conversation}, {response} and {questions}, and, if you
            want our words there, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if most < 1:
        raise BadValue("checklist: most", most, "a whole number from 1")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    common, parts = load(__file__, "prompts/common.txt"), load(__file__, "prompts/checklist_reply.txt")
    questions = in_meta(response.prompt, field)
    if not questions:
        asked = question(
            load(__file__, "prompts/checklist_write.txt", writer_template),
            conversation=talk(response.prompt),
            most=str(most),
            material=words(common, "material"),
        )
        form: dict[str, Any] = {"response_format": schema("checklist", {"questions": _TEXTS})} if structured else {}
        questions = read(await (writer or ask)(asked, **sampling, **form), _questions)[:most]

    async def answer(some: Sequence[str]) -> tuple[list[bool], Reply]:
        tail = "_json" if structured else ""
        wanted = ["reasons" + tail] if reasons else [] if structured else ["no_reasons"]
        messages = question(
            load(__file__, "prompts/checklist_answer.txt", template),
            conversation=talk(response.prompt),
            response=fence(response.text, "response"),
            questions=fence("\n".join(f"{number}. {text}" for number, text in enumerate(some, 1)), "questions"),
            material=words(common, "material"),
            answer=words(parts, *wanted, "answers" + tail),
        )
        form: dict[str, Any] = {"response_format": _schema(len(some), reasons)} if structured else {}
        reply = await ask(messages, **sampling, **form)
        return read(reply, lambda text: _answers(text, len(some))), reply

    given = await together([answer(some) for some in ([[one] for one in questions] if one_by_one else [questions])])
    return _score(questions, [yes for answers, _ in given for yes in answers], [reply.text for _, reply in given], reasons)


def _score(questions: Sequence[str], answers: Sequence[bool], raw: Sequence[str], reasons: bool) -> Score:
    listed = [{"question": text, "met": yes} for text, yes in zip(questions, answers, strict=True)]
    missed = [text for text, yes in zip(questions, answers, strict=True) if not yes]
    said = ["Not met: " + "; ".join(missed) if missed else "All questions met."]
    said += [text for text in map(rationale, raw) if text] if reasons else []
    kept = raw[0] if len(raw) == 1 else json.dumps(list(raw), ensure_ascii=False)
    return Score(sum(answers) / len(answers), {"checklist": listed, "met": sum(answers), "of": len(answers)}, "\n".join(said), kept)


def _questions(text: str) -> list[str]:
    held = fields_in(text).get("questions")
    if not isinstance(held, list) or not held or not all(isinstance(one, str) and any(map(str.isalpha, one)) for one in held):
        raise Unreadable("the reply's JSON has no list of questions", text)
    return list(dict.fromkeys(" ".join(one.split()) for one in held))


def _answers(text: str, count: int) -> list[bool]:
    """YES or NO for every question; any other word, or a question without an answer, makes the reply unreadable."""
    held = fields_in(text).get("answers")
    if isinstance(held, list):
        held = dict(enumerate(held, 1))
    if not isinstance(held, Mapping):
        raise Unreadable("the reply's JSON has no answers", text)
    given: dict[int, Any] = {}
    for key, said in held.items():
        number = re.search(r"\d+", str(key))
        given[int(number[0]) if number else 0] = _YES.get(str(said).strip(" .*").casefold())
    if set(given) != set(range(1, count + 1)) or len(given) != len(held) or None in given.values():
        raise Unreadable(f"the reply does not answer each of {count} questions with YES or NO", text)
    return [given[number] for number in range(1, count + 1)]


def _schema(count: int, reasons: bool) -> dict[str, Any]:
    each = {str(number): {"type": "string", "enum": ["YES", "NO"]} for number in range(1, count + 1)}
    answers = {"type": "object", "properties": each, "required": list(each), "additionalProperties": False}
    return schema("answers", {**({"reasons": {"type": "string"}} if reasons else {}), "answers": answers})
