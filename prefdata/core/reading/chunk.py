"""Rows on their way in: some rows of one file, column by column, before anybody knows what they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from prefdata.core.rows import Reject

FIRST_ROWS = 200
"""Rows that show a file's shape."""
CHUNK_ROWS = 100_000
CHUNK_BYTES = 120 * 2**20
TEXT_BYTES = 64 * 2**20
"""Bytes of a chunk that is read from text: as Python objects it takes a multiple of that."""
SNIPPET = 200
"""Characters of a refused row that are shown."""

Values = pl.Series | list[Any]
"""A column: a Series where all values are of one plain or nested type, else a list of JSON values."""


@dataclass(frozen=True)
class Chunk:
    """Rows of one file: a typed `frame`, or JSON objects in `rows`; and those that could not be read at all."""

    file: str
    lines: pl.Series
    frame: pl.DataFrame | None = None
    rows: Sequence[Mapping[str, Any]] = ()
    raw: Sequence[str] = ()
    """How each row starts in the file; empty where the file is binary."""
    rejects: Sequence[Reject] = ()
    split: str | None = None
    no_null: bool = False
    """Whether the format knows no null, so that an empty text stands for it, except where a response is due."""
    _columns: dict[str, Values] = field(default_factory=dict, repr=False)

    @property
    def height(self) -> int:
        return len(self.lines)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns in the order in which they first appear."""
        if self.frame is not None:
            return tuple(self.frame.columns)
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name: str) -> Values:
        """All values of one column; what a row lacks is null."""
        if self.frame is not None:
            found = self.frame[name]
            return found.cast(pl.String) if found.dtype in (pl.Categorical, pl.Enum) else found
        if name not in self._columns:
            self._columns[name] = plain_series([row.get(name) for row in self.rows])
        return self._columns[name]

    def row(self, index: int) -> Mapping[str, Any]:
        return self.rows[index] if self.frame is None else self.frame.row(index, named=True)

    def snippet(self, index: int) -> str:
        if self.raw:
            return self.raw[index]
        return json.dumps(self.row(index), ensure_ascii=False, default=str)[:SNIPPET]


def plain_series(values: list[Any]) -> Values:
    """Texts (or nothing at all) become a Series; anything else stays a list."""
    return pl.Series(values, dtype=pl.String) if set(map(type, values)) <= {str, type(None)} else values


def counted(first: int, height: int) -> pl.Series:
    """Row numbers from `first` on."""
    return pl.int_range(first, first + height, dtype=pl.Int64, eager=True)
