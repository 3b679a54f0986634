"""What a shape's builder returns: frames of one kind each, refused rows taken out, and refusals of rows inside rows."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from prefdata.core.reading.chat import Chat
from prefdata.core.reading.fields import Fields
from prefdata.core.rows import Reject

COMMON = ("line", "source", "subset", "item_id", "meta")
Columns = dict[str, pl.Series]
Part = tuple[str, pl.DataFrame]
Parts = tuple[list[Part], list[Reject]]


def finish(f: Fields, kind: str, columns: Mapping[str, pl.Series]) -> Part:
    """The frame without the rows that were refused."""
    frame = pl.DataFrame(dict(columns))
    return kind, frame.filter(f.keep()) if f.wrong else frame


def prompt_columns(prompt: Chat) -> Columns:
    return {"prompt": prompt.plain, "messages": prompt.messages, "canonical": prompt.canonical}
