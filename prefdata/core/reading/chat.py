"""Chat messages -> the text columns the store wants, vectorised for regular types and row by row for the rest.

A prompt is `plain` text, or `messages` (JSON text) with `canonical` (what `ids.canonical_messages` makes of it). A
dialogue is a prompt and the assistant's last message. No text is altered: nothing is stripped or joined.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import polars as pl

from prefdata.core import ids
from prefdata.core.reading.chunk import Values
from prefdata.core.reading.text import describe

Message = Mapping[str, Any]
Mode = Literal["prompt", "dialogue", "conversation"]
"""How a value is taken apart.

prompt        a text is the prompt; of a list, all messages are
dialogue      a text is a bare reply; a list must end with the assistant's reply, what stands before it is the prompt
conversation  a list; where the assistant speaks last, that is the reply
"""
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):(?: |(?=\n)|\Z)")
_Row = tuple[str | None, str | None, str | None, str | None]


class Unfit(ValueError):
    """A value that is no prompt or reply; the message says why."""


class Chat(NamedTuple):
    """A column of prompts and, for dialogues, replies; `wrong` says why a row has neither."""

    plain: pl.Series
    messages: pl.Series
    canonical: pl.Series
    reply: pl.Series
    wrong: Mapping[int, str]


def chat(values: Values, mode: Mode) -> Chat:
    """A column of texts or message lists, taken apart as `mode` says. Null stays null."""
    if isinstance(values, pl.Series):
        if values.dtype in (pl.String, pl.Null) and mode != "conversation":
            texts, none = values.cast(pl.String), pl.repeat(None, len(values), dtype=pl.String, eager=True)
            return Chat(none, none, none, texts, {}) if mode == "dialogue" else Chat(texts, none, none, none, {})
        if _regular(values.dtype):
            return _regular_lists(values, mode)
        values = values.to_list()
    return _row_wise(values, lambda value: _take_apart(value, mode))


def transcripts(values: Values) -> Chat:
    """HH-RLHF texts. A turn's marker is Human: or Assistant: after a blank line, with the one space that follows it."""
    return _row_wise(list(values), lambda value: _split(transcript(value)))


def implicit_texts(chosen: Sequence[str | None], rejected: Sequence[str | None]) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Plain texts that share their beginning: prompt, and what is left of both.

    The shared part ends before its last whitespace, so no word is cut in two (TRL cuts between characters); the
    whitespace begins the replies, and prompt + reply is the text as it was. Null where nothing is shared.
    """
    rows = [_share(x, y) if x is not None and y is not None else (None, x, y) for x, y in zip(chosen, rejected, strict=True)]
    prompt, left, right = zip(*rows, strict=True) if rows else ((), (), ())
    return pl.Series(prompt, dtype=pl.String), pl.Series(left, dtype=pl.String), pl.Series(right, dtype=pl.String)


def _share(x: str, y: str) -> tuple[str | None, str, str]:
    low, high = 0, min(len(x), len(y))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if x[:middle] == y[:middle] else (low, middle - 1)
    while low and not x[low - 1].isspace():
        low -= 1
    cut = len(x[:low].rstrip())
    return (x[:cut], x[cut:], y[cut:]) if cut else (None, x, y)


def clean(value: Any) -> list[dict[str, Any]]:
    """A list of messages with role and content first, without null keys; {from, value} is read as {role, content}."""
    if not isinstance(value, list):
        raise Unfit(f"is {describe(value)}, not text or a list of messages")
    if not value:
        raise Unfit("is an empty list; at least one message is needed")
    return [_message(message, place) for place, message in enumerate(value)]


def _message(message: Any, place: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise Unfit(f"has {describe(message)} as message {place + 1}; a message is an object with role and content")
    found = {key: part for key, part in message.items() if part is not None}
    if "role" not in found and "from" in found:
        found["role"] = _ROLES.get(str(found.pop("from")), str(message["from"]))
        found["content"] = found.pop("value", None)
    role, content = found.pop("role", None), found.pop("content", None)
    if not isinstance(role, str) or not role:
        raise Unfit(f"has no role in message {place + 1}")
    if not isinstance(content, str | list) and (content is not None or not found):
        raise Unfit(f"has {describe(content)} as content of message {place + 1}, not text")
    if isinstance(content, list):
        content = [{key: own for key, own in part.items() if own is not None} if isinstance(part, Mapping) else part for part in content]
    return {"role": role, "content": content, **found}


def dump(messages: Sequence[Message]) -> tuple[str, str]:
    """JSON text and canonical text."""
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":")), ids.canonical_messages(messages)


def transcript(text: Any) -> list[dict[str, Any]]:
    """The messages of one HH-RLHF text."""
    marks = list(_TURN.finditer(text)) if isinstance(text, str) else []
    if not marks or marks[0].start():
        raise Unfit(f"is {describe(text)}, not a transcript that begins with a blank line and Human:")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        {"role": "user" if mark[1] == "Human" else "assistant", "content": text[mark.end() : end]}
        for mark, end in zip(marks, ends, strict=True)
    ]


def _take_apart(value: Any, mode: Mode) -> _Row:
    if isinstance(value, str) and mode != "conversation":
        return (None, None, None, value) if mode == "dialogue" else (value, None, None, None)
    messages = clean(value)
    if mode == "dialogue" or (mode == "conversation" and messages[-1]["role"] == "assistant"):
        return _split(messages)
    return (None, *dump(messages), None)


def _split(messages: Sequence[Message]) -> _Row:
    *head, last = messages
    if last["role"] != "assistant":
        raise Unfit(f"ends with a message of the {last['role']}, not with the assistant's reply")
    if not isinstance(last["content"], str):
        raise Unfit("ends with a reply that is not plain text")
    return (None, *(dump(head) if head else (None, None)), last["content"])


def _row_wise(values: list[Any], read: Callable[[Any], _Row]) -> Chat:
    rows: list[_Row] = []
    wrong: dict[int, str] = {}
    for index, value in enumerate(values):
        row: _Row = (None, None, None, None)
        if value is not None:
            try:
                row = read(value)
            except Unfit as error:
                wrong[index] = str(error)
            except RecursionError:
                wrong[index] = "is nested too deeply"
        rows.append(row)
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    plain, messages, canonical, reply = (pl.Series(column, dtype=pl.String) for column in columns)
    return Chat(plain, messages, canonical, reply, wrong)


def _regular(dtype: pl.DataType) -> bool:
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    return isinstance(inner, pl.Struct) and inner.to_schema() in (
        {"role": pl.String, "content": pl.String},
        {"content": pl.String, "role": pl.String},
    )


def _regular_lists(values: pl.Series, mode: Mode) -> Chat:
    """The vectorised twin of `_take_apart` for lists of {role, content} texts."""
    c, role, content = pl.col("c"), pl.element().struct.field("role"), pl.element().struct.field("content")
    last = pl.col("c").list.last().struct.field("role")
    takes_reply = pl.lit(False) if mode == "prompt" else (pl.lit(True) if mode == "dialogue" else last == "assistant")
    frame = pl.DataFrame({"c": values}).with_columns(
        pl.when(c.list.len() == 0)
        .then(pl.lit("is an empty list; at least one message is needed"))
        .when(c.list.eval(role.is_null() | (role == "") | content.is_null()).list.any())
        .then(pl.lit("has a message without role or content"))
        .when(pl.lit(mode == "dialogue") & (last != "assistant"))
        .then(pl.concat_str(pl.lit("ends with a message of the "), last, pl.lit(", not with the assistant's reply")))
        .alias("wrong"),
        takes_reply.alias("takes"),
    )
    head = pl.when("takes").then(c.list.head(c.list.len().cast(pl.Int64) - 1)).otherwise(c)
    ok = pl.col("wrong").is_null() & c.is_not_null()
    frame = frame.with_columns(
        pl.when(ok & (head.list.len() > 0)).then(head).alias("h"),
        pl.when(ok & pl.col("takes")).then(c.list.last().struct.field("content")).alias("reply"),
    )
    h = pl.col("h")
    ordered = h.list.eval(pl.struct(role.alias("role"), content.alias("content")))
    frame = frame.with_columns(
        pl.when(h.is_not_null()).then(pl.struct(m=ordered).struct.json_encode().str.slice(5).str.head(-1)).alias("messages"),
        h.list.eval(pl.concat_str(role, pl.lit(ids.UNIT), content, pl.lit(ids.RECORD))).list.join("").alias("canonical"),
        pl.lit(None, dtype=pl.String).alias("plain"),
    )
    found = frame["wrong"].is_not_null().arg_true()
    wrong = dict(zip(found.to_list(), frame["wrong"].gather(found).to_list(), strict=True))
    return Chat(frame["plain"], frame["messages"], frame["canonical"], frame["reply"], wrong)
