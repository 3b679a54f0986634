"""The columns of a chunk, each brought to one plain type; what does not fit refuses its row, and the first reason stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import polars as pl

from prefdata.core import ids
from prefdata.core.reading import chat
from prefdata.core.reading.chat import Chat, Mode
from prefdata.core.reading.chunk import Chunk, Values
from prefdata.core.reading.meta import meta_json
from prefdata.core.reading.text import describe
from prefdata.core.rows import Reject

_NO_NUMBER = ("", "n/a", "na", "none", "null", "nan", "-")
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
_RESPONSES = ("chosen", "rejected", "response_a", "response_b", "completion")
MISSING = "is missing or null"


class Fields:
    """One chunk seen as a shape sees it: fields instead of columns.

    Args:
        chunk: the rows.
        columns: field -> the column that holds it. A field that is not named here is null throughout.
        source: the name of the set, for rows that have none.
        no_prompt: the prompt of rows that have none; None refuses them.
        path: what stands before a field's name in a refusal, for rows inside rows.
    """

    def __init__(
        self,
        chunk: Chunk,
        columns: Mapping[str, str],
        *,
        source: str | None = None,
        no_prompt: str | None = None,
        path: Callable[[int], str] | None = None,
    ) -> None:
        self.chunk, self.columns, self.source, self.no_prompt = chunk, columns, source, no_prompt
        self.wrong: dict[int, tuple[str, str]] = {}
        self._path = path or (lambda _: "")

    @property
    def height(self) -> int:
        return self.chunk.height

    def has(self, field: str) -> bool:
        return field in self.columns

    def values(self, field: str) -> Values:
        if field not in self.columns:
            return pl.repeat(None, self.height, eager=True)
        return self._column(self.columns[field], empty=field in _RESPONSES)

    def _column(self, name: str, *, empty: bool = False) -> Values:
        values = self.chunk.column(name)
        if self.chunk.no_null and not empty and isinstance(values, pl.Series):
            return values.set(values == "", None)
        return values

    def refuse(self, where: pl.Series | Iterable[int], field: str, reason: str | Callable[[int], str]) -> None:
        """Refuse the rows where the mask is true (or with these indices), unless they were refused before."""
        for index in where.fill_null(False).arg_true().to_list() if isinstance(where, pl.Series) else where:
            if index not in self.wrong:
                self.wrong[index] = (self.columns.get(field, field), reason if isinstance(reason, str) else reason(index))

    def _mistyped(self, where: pl.Series | Iterable[int], field: str, values: Values, wanted: str) -> None:
        self.refuse(where, field, lambda index: f"is {describe(values[index])}, not {wanted}")

    def refused(self) -> list[tuple[int, Reject]]:
        """The refused rows by index."""
        chunk, lines = self.chunk, self.chunk.lines
        return [
            (index, Reject(chunk.file, int(lines[index]), (self._path(index) + field).rstrip("."), reason, chunk.snippet(index)))
            for index, (field, reason) in sorted(self.wrong.items())
        ]

    def keep(self) -> pl.Series:
        """Which rows are still good."""
        good = pl.repeat(True, self.height, dtype=pl.Boolean, eager=True)
        return good.scatter(sorted(self.wrong), False) if self.wrong else good

    def text(self, field: str, *, required: bool = False) -> pl.Series:
        """Text as it is. Anything else is refused; null too, where the field is required."""
        values = self.values(field)
        if isinstance(values, list):
            self._mistyped(_where(values, lambda v: v is not None and not isinstance(v, str)), field, values, "text")
            found = pl.Series([v if isinstance(v, str) else None for v in values], dtype=pl.String)
        elif values.dtype in (pl.String, pl.Null):
            found = values.cast(pl.String)
        else:
            self._mistyped(values.is_not_null(), field, values, "text")
            found = self.nothing(pl.String)
        if required:
            self.refuse(found.is_null(), field, MISSING)
        return found

    def word(self, field: str, *, required: bool = False) -> pl.Series:
        """A name, id or label: text or a whole number. The empty text is null."""
        values = self.values(field)
        if isinstance(values, list):
            self._mistyped(_where(values, lambda v: isinstance(v, list | dict)), field, values, "a word")
            found = pl.Series([None if v is None or isinstance(v, list | dict) else _word(v) for v in values], dtype=pl.String)
        elif values.dtype.is_nested():
            self._mistyped(values.is_not_null(), field, values, "a word")
            found = self.nothing(pl.String)
        else:
            whole = values.dtype.is_float() and bool((values.drop_nulls().round() == values.drop_nulls()).all())
            found = (values.cast(pl.Int64, strict=False) if whole else values).cast(pl.String, strict=False)
        found = found.set(found == "", None)
        if required:
            self.refuse(found.is_null(), field, MISSING)
        return found

    def number(self, field: str, values: Values | None = None) -> pl.Series:
        """A number, also one written as text; N/A and NaN are null, the infinities are refused."""
        values = self.values(field) if values is None else values
        if isinstance(values, list):
            self._mistyped(_where(values, lambda v: isinstance(v, bool | list | dict)), field, values, "a number")
            written = pl.Series([v if isinstance(v, str) else None for v in values], dtype=pl.String)
            counted = pl.Series([_float(v) for v in values], dtype=pl.Float64)
        elif values.dtype.is_numeric():
            written, counted = self.nothing(pl.String), values.cast(pl.Float64)
        elif values.dtype in (pl.String, pl.Null):
            written, counted = values.cast(pl.String), self.nothing(pl.Float64)
        else:
            self._mistyped(values.is_not_null(), field, values, "a number")
            written, counted = self.nothing(pl.String), self.nothing(pl.Float64)
        low = written.str.strip_chars().str.to_lowercase()
        parsed = low.cast(pl.Float64, strict=False)
        self._mistyped(parsed.is_null() & low.is_not_null() & ~low.is_in(_NO_NUMBER), field, written, "a number")
        found = counted.fill_null(parsed).fill_nan(None)
        self.refuse(found.is_infinite(), field, "is infinite; a number must be finite")
        return found

    def flag(self, field: str) -> pl.Series:
        """true or false as 1.0 or 0.0."""
        values = self.values(field)
        if isinstance(values, pl.Series) and values.dtype == pl.Boolean:
            found = values.cast(pl.Float64)
        else:
            words = self.word(field).str.to_lowercase()
            found = words.replace_strict(_TRUTH, default=None, return_dtype=pl.Float64)
            self.refuse(words.is_not_null() & found.is_null(), field, lambda i: f"is {describe(values[i])}; allowed: true, false, 1, 0")
        self.refuse(found.is_null(), field, MISSING)
        return found

    def chat(self, field: str, mode: Mode) -> Chat:
        values = self.values(field)
        if mode == "conversation" and isinstance(values, pl.Series) and values.dtype == pl.String:
            values = parsed(values)
        found = chat.chat(values, mode)
        for index, reason in found.wrong.items():
            self.refuse((index,), field, reason)
        return found

    def prompt(self, field: str = "prompt") -> Chat:
        """The prompt, with a system text before it and Alpaca's `input` after it where there are such columns."""
        found = self.chat(field, "prompt")
        if self.no_prompt is not None:
            absent = found.plain.is_null() & found.canonical.is_null()
            found = found._replace(plain=found.plain.set(absent, self.no_prompt))
        if self.has("input"):
            more = self.text("input")
            joined = pl.select(pl.concat_str(found.plain, more, separator="\n\n")).to_series()
            found = found._replace(plain=joined.zip_with((more != "").fill_null(False) & joined.is_not_null(), found.plain))
        if self.has("system"):
            found = self._with_system(found)
        return found

    def _with_system(self, found: Chat) -> Chat:
        system = self.text("system")
        both = pl.DataFrame({"system": system, "plain": found.plain})
        two = pl.concat_list(pl.struct(role=pl.lit("system"), content="system"), pl.struct(role=pl.lit("user"), content="plain"))
        made = chat.chat(both.select(pl.when((pl.col("system") != "") & pl.col("plain").is_not_null()).then(two)).to_series(), "prompt")
        return found._replace(
            plain=found.plain.set(made.canonical.is_not_null(), None),
            messages=found.messages.fill_null(made.messages),
            canonical=found.canonical.fill_null(made.canonical),
        )

    def need_prompt(self, prompt: Chat, field: str = "prompt") -> None:
        """Refuse rows without a prompt."""
        absent = prompt.plain.is_null() & prompt.canonical.is_null()
        self.refuse(absent, field, f"{MISSING}; give no_prompt= to import such rows under a prompt of your own")

    def common(self, also: Mapping[str, Values] | None = None) -> dict[str, pl.Series]:
        """line, source, subset, item_id and, from all columns no field uses, meta."""
        used = set(self.columns.values()) - {self.columns.get("extra")}
        rest = {name: self._column(name) for name in self.chunk.names if name not in used}
        subset, source = self.word("subset"), self.word("source")
        return {
            "line": self.chunk.lines,
            "source": source.fill_null(self.source) if self.source else source,
            "subset": subset.fill_null(self.chunk.split) if self.chunk.split else subset,
            "item_id": self.word("item_id"),
            "meta": self.json({**rest, **(also or {})}, flatten=self.columns.get("extra")),
        }

    def json(self, columns: Mapping[str, Values], *, flatten: str | None = None) -> pl.Series:
        """One JSON object per row; see `meta_json`."""
        unwritable: dict[int, str] = {}
        found = meta_json(columns, flatten=(flatten,) if flatten else (), unwritable=unwritable, height=self.height)
        for index, name in unwritable.items():
            self.refuse((index,), name, "holds an infinite number or is nested too deeply for JSON")
        return found

    def nothing(self, dtype: Any) -> pl.Series:
        return pl.repeat(None, self.height, dtype=dtype, eager=True)


def canonical(prompt: Chat) -> pl.Series:
    """The canonical text of every prompt, plain ones included."""
    plain = pl.select(pl.concat_str(pl.lit(f"user{ids.UNIT}"), prompt.plain, pl.lit(ids.RECORD))).to_series()
    return prompt.canonical.fill_null(plain)


def parsed(texts: pl.Series) -> Values:
    """Lists written as JSON text, as CSV files hold them; what is no JSON stays text."""
    return [_parse(text) for text in texts]


def _parse(text: str | None) -> Any:
    if text is None or not text.lstrip().startswith(("[", "{")):
        return text or None
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text


def _where(values: list[Any], test: Callable[[Any], bool]) -> list[int]:
    return [index for index, value in enumerate(values) if test(value)]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")
