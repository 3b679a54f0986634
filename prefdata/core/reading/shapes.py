"""The shapes people's files have, told apart by their columns and the first values in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.reading.chat import Unfit, transcript
from prefdata.core.reading.chunk import FIRST_ROWS, Chunk
from prefdata.core.reading.fields import parsed

Names = tuple[str, ...]
Allowed = Mapping[str, Names]
_PROMPT = ("prompt", "instruction", "question", "query")
_CONTEXT = (*_PROMPT, "context", "text", "messages")
_PLACE: Allowed = {"source": ("source",), "subset": ("subset",), "extra": ("extra", "meta")}
_ITEM: Allowed = {**_PLACE, "item_id": ("item_id", "id", "pair_id", "question_id")}
_BEFORE: Allowed = {"system": ("system", "system_prompt"), "input": ("input",)}
_WHO: Allowed = {
    "annotator_id": ("annotator_id", "annotator", "worker_id", "judge"),
    "annotator_kind": ("annotator_kind", "label_kind"),
    "annotator_group": ("annotator_group", "group"),
    "rationale": ("rationale", "reason", "explanation", "justification", "feedback"),
}
_SIDES: Allowed = {
    "strength": ("strength",),
    "model_a": ("model_a",),
    "model_b": ("model_b",),
    "score_a": ("score_a", "rating_a"),
    "score_b": ("score_b", "rating_b"),
    "scores": ("scores",),
}
_CHOSEN: Allowed = {
    "model_a": ("chosen_model", "model_chosen", "chosen-model"),
    "model_b": ("rejected_model", "model_rejected", "rejected-model"),
    "score_a": ("score_chosen", "chosen_score", "chosen_rating", "chosen-rating", "rating_chosen"),
    "score_b": ("score_rejected", "rejected_score", "rejected_rating", "rejected-rating", "rating_rejected"),
    "margin": ("margin",),
    "dialogue": ("messages",),
}
_VOTE: Allowed = {
    **_WHO,
    "strength": ("strength",),
    "model_a": ("model_a", "model"),
    "model_b": ("model_b",),
    "aspect": ("metric", "aspect", "attribute"),
    "shown": ("order", "shown"),
    "sample": ("sample",),
    "seconds": ("seconds", "duration"),
    "started": ("accept", "started"),
    "ended": ("submit", "ended", "created"),
}
_LABEL = ("label", "winner", "preference", "choice", "verdict")
_REPLY = ("response", "completion", "output", "generation", "text")
_ONE: Allowed = {
    "model": ("model", "generator", "model_name"),
    "sample": ("sample",),
    "annotator_id": ("annotator_id", "annotator", "judge"),
    "annotator_kind": ("annotator_kind",),
}
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
CANDIDATE: Allowed = {
    "text": ("text", "response", "content", "completion", "output", "generation"),
    "model": ("model", "generator", "model_name"),
    "score": ("score", "rating", "reward", "overall_score"),
    "sample": ("sample",),
    "annotations": ("annotations",),
    "scores": ("scores", "ratings"),
    "annotator_id": ("annotator_id", "annotator", "judge"),
    "annotator_kind": ("annotator_kind",),
}
"""Fields of one candidate inside a row."""

Test = Callable[[Chunk, Mapping[str, str]], bool]


@dataclass(frozen=True)
class Shape:
    """One shape: the fields a row needs and may have, each with the column names that may hold it, best first."""

    name: str
    doc: str
    kind: str
    needs: Allowed
    may: Allowed = field(default_factory=dict)
    without: Names = ()
    """Columns that speak against the shape."""
    test: Test | None = None
    says: str = ""
    """What the test asks for, in words."""

    def find(self, names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
        """field -> column, for every field that has one."""
        found = {name: column for name, column in given.items() if name in self.needs or name in self.may}
        for name, allowed in {**self.may, **self.needs}.items():
            column = next((column for column in allowed if column in names and column not in found.values()), None)
            if name not in found and column is not None:
                found[name] = column
        return found


@dataclass(frozen=True)
class Detected:
    """What a file was taken for."""

    file: str
    shape: str
    kind: str
    """What its rows become: pairs, responses, prompts or annotations."""
    columns: Mapping[str, str]
    """field -> the file's column."""
    meta: Names
    """Columns no field uses; they are kept in `meta`."""
    why: str


def _values(chunk: Chunk, column: str) -> list[Any]:
    values = chunk.column(column)
    head = values[:FIRST_ROWS]
    return [v for v in (head.to_list() if isinstance(head, pl.Series) else head) if v is not None]


def _lists(name: str) -> Test:
    def test(chunk: Chunk, columns: Mapping[str, str]) -> bool:
        values = _values(chunk, columns[name])
        return any(isinstance(value, list) for value in (parsed(pl.Series(values)) if values and isinstance(values[0], str) else values))

    return test


def _truths(chunk: Chunk, columns: Mapping[str, str]) -> bool:
    values = _values(chunk, columns["label"])
    return bool(values) and all(str(value).lower() in ("true", "false", "1", "0") for value in values)


def _transcripts(chunk: Chunk, columns: Mapping[str, str]) -> bool:
    values = _values(chunk, columns["chosen"])
    return bool(values) and 2 * sum(map(_is_transcript, values)) >= len(values)


def _is_transcript(value: Any) -> bool:
    try:
        return bool(transcript(value))
    except Unfit:
        return False


def _aspects(chunk: Chunk, columns: Mapping[str, str]) -> bool:
    values = _values(chunk, columns["responses"])
    return any(isinstance(one, dict) and "annotations" in one for value in values if isinstance(value, list) for one in value)


def _attributes(chunk: Chunk, columns: Mapping[str, str]) -> bool:
    return any(name in columns for name in ATTRIBUTES)


_MANY = {"prompt": (*_PROMPT, "messages"), "responses": ("responses", "completions", "candidates", "generations")}
_TWO = {"chosen": ("chosen", "chosen_response"), "rejected": ("rejected", "rejected_response")}
_NO_TEXTS = ("response_a", "chosen", "conversation_a", "response", "responses", "completion_a")
_SHAPES = (
    Shape(
        "judgments",
        "verdicts of LLM judges on earlier pairs, or their ratings of responses",
        "annotations",
        {"item_id": ("item_id",), "judge": ("judge",), "label": _LABEL},
        {
            **_PLACE,
            **{name: columns for name, columns in _VOTE.items() if name != "annotator_id"},
            "method": ("method",),
            "raw": ("completion", "raw"),
            "raw_label": ("raw_winner",),
        },
        _NO_TEXTS,
    ),
    Shape(
        "annotations",
        "votes on earlier pairs, by item or by item and two models; a number as the label rates one response",
        "annotations",
        {"item_id": ("item_id", "pair_id"), "annotator_id": ("annotator_id", "annotator", "worker_id"), "label": _LABEL},
        {**_PLACE, **_VOTE, "raw": ("raw",)},
        _NO_TEXTS,
    ),
    Shape(
        "arena",
        "battles of two models with their conversations",
        "pairs",
        {"conversation_a": ("conversation_a",), "conversation_b": ("conversation_b",), "label": _LABEL},
        {**_ITEM, **_WHO, **_SIDES},
        test=_lists("conversation_a"),
        says="conversation_a must hold lists of messages",
    ),
    Shape(
        "helpsteer_preference",
        "two responses with a strength from -3 (first) to 3 (second)",
        "pairs",
        {
            "prompt": _CONTEXT,
            "response_a": ("response_1", "response1"),
            "response_b": ("response_2", "response2"),
            "label": ("preference_strength", "overall_preference"),
        },
        {**_ITEM, **_BEFORE, **_WHO, "rationale": ("preference_elaboration", "preference_statement")},
    ),
    Shape(
        "pairs",
        "two responses with a label",
        "pairs",
        {
            "prompt": _CONTEXT,
            "response_a": ("response_a", "completion_a", "answer_a", "output_a"),
            "response_b": ("response_b", "completion_b", "answer_b", "output_b"),
        },
        {**_ITEM, **_BEFORE, **_WHO, **_SIDES, "label": (*_LABEL, "overall_pref", "pref")},
    ),
    Shape(
        "hh",
        "HH-RLHF transcripts (Human: ... Assistant: ...) in chosen and rejected",
        "pairs",
        _TWO,
        {**_ITEM, **_WHO, **_CHOSEN},
        ("prompt",),
        _transcripts,
        "chosen must begin with a blank line and Human:",
    ),
    Shape(
        "preference",
        "a prompt with a chosen and a rejected response",
        "pairs",
        {"prompt": _PROMPT, **_TWO},
        {**_ITEM, **_BEFORE, **_WHO, **_CHOSEN},
    ),
    Shape(
        "implicit",
        "chosen and rejected that share their beginning, which is the prompt",
        "pairs",
        _TWO,
        {**_ITEM, **_WHO, **_CHOSEN},
    ),
    Shape(
        "ultrafeedback",
        "many completions of an instruction, rated by aspect",
        "responses",
        _MANY,
        {**_ITEM, **_BEFORE},
        test=_aspects,
        says="completions must be lists of objects with annotations",
    ),
    Shape(
        "candidates",
        "many responses of one prompt",
        "responses",
        _MANY,
        {**_ITEM, **_BEFORE},
        test=_lists("responses"),
        says="responses must be lists",
    ),
    Shape(
        "unpaired",
        "single completions that are desirable or not (KTO)",
        "responses",
        {"prompt": _PROMPT, "completion": _REPLY, "label": ("label",)},
        {**_ITEM, **_BEFORE, **_ONE},
        test=_truths,
        says="label must be true or false",
    ),
    Shape(
        "helpsteer",
        "single responses rated by attribute (helpfulness, ...)",
        "responses",
        {"prompt": _PROMPT, "completion": _REPLY},
        {**_ITEM, **_BEFORE, **_ONE, **{name: (name,) for name in ATTRIBUTES}},
        test=_attributes,
        says=f"one of {', '.join(ATTRIBUTES)} is needed",
    ),
    Shape(
        "responses",
        "single responses of prompts",
        "responses",
        {"prompt": _PROMPT, "completion": _REPLY},
        {**_ITEM, **_BEFORE, **_ONE, "score": ("score", "rating", "reward"), "scores": ("scores",)},
    ),
    Shape(
        "messages",
        "conversations; a last message by the assistant is a response",
        "responses",
        {"messages": ("messages", "conversations", "conversation")},
        {**_ITEM, "model": ("model",)},
        test=_lists("messages"),
        says="messages must hold lists of messages",
    ),
    Shape("prompts", "prompts alone", "prompts", {"prompt": _PROMPT}, {**_ITEM, "item_id": (*_ITEM["item_id"], "prompt_id"), **_BEFORE}),
)
SHAPES = {shape.name: shape for shape in _SHAPES}
FIELDS = sorted({name for shape in _SHAPES for name in (*shape.needs, *shape.may)})


def detect_shape(chunk: Chunk, wanted: str = "auto", given: Mapping[str, str] | None = None) -> Detected:
    """The shape of the file that begins with `chunk`.

    Args:
        wanted: a shape's name, or auto: the first of `SHAPES` that fits.
        given: field -> column, where the file's names are its own.
    """
    given = given or {}
    _check(chunk, wanted, given)
    for shape in _SHAPES if wanted == "auto" else (SHAPES[wanted],):
        columns = shape.find(chunk.names, given)
        if not (_lacks(shape, chunk, columns) if wanted == "auto" else set(shape.needs) - set(columns)):
            return _detected(shape, chunk, columns)
    raise _unrecognised(chunk, wanted, given)


def _check(chunk: Chunk, wanted: str, given: Mapping[str, str]) -> None:
    if wanted not in SHAPES and wanted != "auto":
        raise UnknownName("shape", wanted, (*SHAPES, "auto"))
    known = FIELDS if wanted == "auto" else sorted({*SHAPES[wanted].needs, *SHAPES[wanted].may})
    for name, column in given.items():
        if name not in known:
            raise UnknownName("field", name, known, " in columns=")
        if column not in chunk.names:
            raise UnknownName("column", column, chunk.names, f" for the field {name!r} in {chunk.file!r}")


def _lacks(shape: Shape, chunk: Chunk, columns: Mapping[str, str]) -> list[str]:
    """What keeps a file from being of this shape."""
    lacking = [name for name in shape.needs if name not in columns]
    against = [name for name in shape.without if name in chunk.names]
    if against and not lacking:
        return [f"no column {against[0]}"]
    if not lacking and shape.test and not shape.test(chunk, columns):
        return [shape.says]
    return lacking


def _detected(shape: Shape, chunk: Chunk, columns: Mapping[str, str]) -> Detected:
    meta = tuple(name for name in chunk.names if name not in columns.values())
    read = ", ".join(f"{column} as {name}" if column != name else name for name, column in columns.items())
    why = f"{shape.doc}: read {read}" + (f"; kept as meta: {', '.join(meta)}" if meta else "")
    return Detected(chunk.file, shape.name, shape.kind, columns, meta, why)


def _unrecognised(chunk: Chunk, wanted: str, given: Mapping[str, str]) -> PrefdataError:
    found = ", ".join(chunk.names[:20]) + (", ..." if len(chunk.names) > 20 else "")
    ranked = []
    for shape in _SHAPES if wanted == "auto" else (SHAPES[wanted],):
        columns = shape.find(chunk.names, given)
        ranked.append((len(_lacks(shape, chunk, columns)), -sum(name in columns for name in shape.needs), shape))
    _, matched, near = min(ranked, key=lambda entry: entry[:2])
    hint = ""
    if matched or wanted != "auto":
        lacks = ", ".join(_lacks(near, chunk, near.find(chunk.names, given)))
        hint = f" {'The' if wanted != 'auto' else 'The nearest'} shape {near.name} ({', '.join(near.needs)}) lacks: {lacks}."
    return PrefdataError(
        f"{chunk.file!r} has the columns {found or 'none'}, which "
        + (f"do not make the shape {wanted!r}." if wanted != "auto" else f"make none of the known shapes ({', '.join(SHAPES)}).")
        + f"{hint} Give shape= or name the columns, such as columns={{'prompt': 'question'}}."
    )
