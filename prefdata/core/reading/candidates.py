"""Rows that hold a prompt and a list of candidates -> one response a row.

Every candidate counts as a row of its own: a bad one is refused and the others go in. What a row says beside its
candidates belongs to the prompt (`prompt_meta`), what a candidate says beside its text to the response (`meta`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.core.reading.chunk import Chunk, Values
from prefdata.core.reading.fields import MISSING, Fields, parsed
from prefdata.core.reading.parts import Columns, Parts, finish, prompt_columns
from prefdata.core.reading.shapes import CANDIDATE
from prefdata.core.reading.text import describe

_NONE = ("n/a", "na", "none", "")


def candidates(f: Fields) -> Parts:
    """Responses of all candidates; rows with an empty list are prompts alone."""
    prompt = f.prompt()
    f.need_prompt(prompt)
    inner, owner, empty = _inner(f)
    common = f.common()
    outer = {**common, **prompt_columns(prompt)}
    made = _responses(inner)
    rows: Columns = {name: column.gather(owner) for name, column in outer.items() if name != "meta"}
    theirs = common["meta"].gather(owner)
    rows["prompt_meta"] = theirs.fill_null("{}").zip_with(made["meta"].is_not_null(), theirs)
    rows |= made
    good = f.keep()
    rejects = [reject for index, reject in inner.refused() if good[owner[index]]]
    _, frame = finish(inner, "responses", {**rows, "owner": owner, "good": good.gather(owner)})
    frame = frame.filter("good").with_columns(_sample()).drop("good", "owner")
    alone = pl.DataFrame(outer).filter(empty & good)
    return [("responses", frame), ("prompts", alone)], rejects


def _sample() -> pl.Expr:
    """Several answers of one model to one prompt are its samples 0, 1, ...; unnamed models are not told apart."""
    order = pl.int_range(pl.len()).over("owner", "model")
    return pl.col("sample").fill_null(pl.when(pl.col("model").is_not_null()).then(order).otherwise(0)).alias("sample")


def _responses(inner: Fields) -> Columns:
    text = inner.text("text", required=True)
    values = inner.values("score")
    listed = values.to_list() if isinstance(values, pl.Series) and isinstance(values.dtype, pl.Struct) else values
    single = [None if isinstance(value, dict) else value for value in listed] if isinstance(listed, list) else listed
    rated = {field: _by_aspect(inner, field) for field in ("score", "scores", "annotations")}
    scores = [{**x, **y, **z} or None for x, y, z in zip(*(numbers for numbers, _ in rated.values()), strict=True)]
    return {
        "text": text,
        "model": inner.word("model"),
        "score": inner.number("score", single),
        "sample": inner.number("sample").cast(pl.Int64, strict=False),
        "scores": inner.json({"scores": scores}, flatten="scores"),
        "annotator_id": inner.word("annotator_id"),
        "annotator_kind": inner.word("annotator_kind"),
        "meta": inner.common({field: rest for field, (_, rest) in rated.items()})["meta"],
    }


def _by_aspect(inner: Fields, field: str) -> tuple[list[dict[str, float]], list[Any]]:
    """The numbers of objects such as {"honesty": 3} or {"honesty": {"Rating": "3", "Rationale": ...}}, and the rest of them."""
    ratings: list[dict[str, float]] = [{} for _ in range(inner.height)]
    rest: list[Any] = [None] * inner.height
    for index, value in enumerate(inner.values(field) if inner.has(field) else ()):
        if not isinstance(value, dict):
            rest[index] = None if field == "score" else value
            continue
        other = {}
        for aspect, said in value.items():
            parts = {name: part for name, part in said.items() if part is not None} if isinstance(said, dict) else {"Rating": said}
            try:
                rating = _rating(parts.pop("Rating", None))
            except ValueError as error:
                inner.refuse((index,), field, f"rates {aspect} as {error}, not a number or N/A")
                continue
            if rating is not None:
                ratings[index][aspect] = rating
            if parts:
                other[aspect] = parts
        rest[index] = other or None
    return ratings, rest


def _rating(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return None
    try:
        number = float(value) if isinstance(value, str) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < float("inf"):
            return int(number) if float(number).is_integer() else number
    except (OverflowError, ValueError):
        pass
    raise ValueError(describe(value))


def _inner(f: Fields) -> tuple[Fields, pl.Series, pl.Series]:
    """The candidates as rows of their own, the row each belongs to, and which rows have none."""
    values = f.values("responses")
    if isinstance(values, pl.Series) and isinstance(values.dtype, pl.List):
        counts = values.list.len()
        f.refuse(counts.is_null(), "responses", MISSING)
        flat: Values = values.filter(counts.fill_null(0) > 0).explode()
    else:
        lists = _lists(f, parsed(values) if isinstance(values, pl.Series) else values)
        counts = pl.Series([len(value) for value in lists], dtype=pl.UInt32)
        flat = [one for value in lists for one in value]
    counts = counts.fill_null(0)
    owner = pl.int_range(f.height, dtype=pl.UInt32, eager=True).repeat_by(counts).explode().drop_nulls()
    place = pl.int_range(len(owner), dtype=pl.Int64, eager=True) - (counts.cum_sum() - counts).cast(pl.Int64).gather(owner)
    column = f.columns["responses"]
    chunk, bad = _chunk(f, flat, f.chunk.lines.gather(owner))
    inner = Fields(chunk, _columns(chunk), path=lambda index: f"{column}[{place[index]}].")
    for index, reason in bad.items():
        inner.refuse((index,), "", reason)
    return inner, owner, counts == 0


def _lists(f: Fields, values: Values) -> list[list[Any]]:
    out = []
    for index, value in enumerate(values):
        if not isinstance(value, list):
            f.refuse((index,), "responses", MISSING if value is None else f"is {describe(value)}, not a list of candidates")
        out.append(value if isinstance(value, list) else [])
    return out


def _chunk(f: Fields, flat: Values, lines: pl.Series) -> tuple[Chunk, dict[int, str]]:
    """Candidates that are objects or plain texts, and what is neither."""
    if isinstance(flat, pl.Series):
        if isinstance(flat.dtype, pl.Struct):
            absent = dict.fromkeys(flat.is_null().arg_true().to_list(), "is null, not a candidate")
            return Chunk(f.chunk.file, lines, flat.struct.unnest()), absent
        return Chunk(f.chunk.file, lines, pl.DataFrame({"text": flat})), {}
    names = {name for value in flat if isinstance(value, dict) for name in value}
    text = next((name for name in CANDIDATE["text"] if name in names), "text")
    rows: list[Mapping[str, Any]] = []
    bad: dict[int, str] = {}
    for index, value in enumerate(flat):
        if not isinstance(value, str | dict):
            bad[index] = f"is {describe(value)}, not a candidate"
        rows.append({text: value} if isinstance(value, str) else value if isinstance(value, dict) else {})
    return Chunk(f.chunk.file, lines, rows=rows), bad


def _columns(chunk: Chunk) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, allowed in CANDIDATE.items():
        column = next((column for column in allowed if column in chunk.names and column not in found.values()), None)
        if column is not None:
            found[name] = column
    return found
