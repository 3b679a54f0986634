"""Rows with their texts, chunk by chunk, in store order.

Decide on narrow columns, then fetch the texts: a first pass reads ids and row numbers only; each chunk then reads the
stretches of the text tables its rows lie in (neighbours were imported together) and picks its rows from them. No join
ever carries a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from prefdata.core.columns import PROMPT, TEXTS, Keys, relation
from prefdata.core.store import Store

CHUNK = 50_000
_SPARSE = 4
"""A stretch more than this many times longer than the rows wanted from it is not read whole."""


def scan(
    store: Store, subject: str, names: Iterable[str], keys: Keys, *, only: pl.DataFrame | None = None, chunk: int = CHUNK
) -> Iterator[pl.DataFrame]:
    """Frames of at most `chunk` rows in store order, with `id` and `names`; each is read in one short call.

    Args:
        subject: prompt, response or pair.
        names: columns (see `columns.py`), texts included.
        only: a frame whose `id` says which rows; None: all that the filters kept.
    """
    names = list(dict.fromkeys(names))
    yield from read(store, subject, locate(store, subject, names, keys, only=only), names, chunk)


def read(store: Store, subject: str, index: pl.DataFrame, names: Iterable[str], chunk: int = CHUNK) -> Iterator[pl.DataFrame]:
    """The second pass: frames of at most `chunk` rows of an index made by `locate`, with their texts."""
    names = list(dict.fromkeys(names))
    wide = [n for n in names if n in TEXTS]
    for start in range(0, index.height, chunk):
        part = index.slice(start, chunk)
        yield (_with_texts(store, subject, part, wide) if wide else part).select("id", *names)


def locate(store: Store, subject: str, names: Iterable[str], keys: Keys, *, only: pl.DataFrame | None = None) -> pl.DataFrame:
    """The narrow pass: `id`, every column of `names` but texts, and the row numbers where those stand.

    Further columns of `only` come along.
    """
    names = list(dict.fromkeys(names))
    wide = [n for n in names if n in TEXTS]
    of_prompt, of_sides = bool({"prompt", "messages"} & set(wide)), any(n.endswith("_text") for n in wide)
    anchors = (["a_id", "b_id"] if of_sides else []) + (["prompt_id"] if of_prompt and subject != "prompt" else [])
    if any(n.startswith(("chosen", "rejected")) for n in wide):
        anchors.append("winner")
    rel = relation(subject, [*(n for n in names if n not in wide), *anchors], keys)
    joins, columns = "", "x.*"
    if of_sides:
        joins += " JOIN responses ra ON ra.id = x.a_id JOIN responses rb ON rb.id = x.b_id"
        columns += ", ra.rowid AS a_row, rb.rowid AS b_row"
    if of_prompt and subject != "prompt":
        joins += " JOIN prompts pp ON pp.id = x.prompt_id"
        columns += ", pp.rowid AS p_row"
    frames: dict[str, pl.DataFrame] = {}
    if only is not None:
        joins += " JOIN only_ids ON only_ids.id = x.id"
        columns += "".join(f", only_ids.{name}" for name in only.columns if name != "id")
        frames["only_ids"] = only
    found = store.frame(f"SELECT {columns} FROM ({rel.sql}) x {joins} ORDER BY x.row", dict(rel.parameters), **frames)
    return found.with_columns(pl.col("row").alias("p_row")) if of_prompt and subject == "prompt" else found


def _with_texts(store: Store, subject: str, part: pl.DataFrame, wide: list[str]) -> pl.DataFrame:
    texts: dict[str, pl.Series] = {}
    if subject == "response" and "text" in wide:
        texts["text"] = _fetch(store, "responses", "text", part["row"])
    if "a_row" in part.columns:
        both = _fetch(store, "responses", "text", pl.concat([part["a_row"], part["b_row"]]))
        texts["a_text"], texts["b_text"] = both.head(part.height), both.tail(part.height)
    for name in ("prompt", "messages"):
        if name in wide:
            texts[name] = _fetch(store, "prompts", PROMPT[name].replace("pr.", ""), part["p_row"])
    full = part.with_columns(series.alias(name) for name, series in texts.items())
    if "winner" not in part.columns or "a_text" not in texts:
        return full
    a, b, winner = pl.col("a_text"), pl.col("b_text"), pl.col("winner")
    return full.with_columns(
        chosen_text=pl.when(winner == "a").then(a).when(winner == "b").then(b),
        rejected_text=pl.when(winner == "a").then(b).when(winner == "b").then(a),
    )


def _fetch(store: Store, table: str, expression: str, rows: pl.Series) -> pl.Series:
    """The texts at these row numbers, in this order."""
    low, high = _ends(rows)
    wanted = rows.unique()
    sql = f"SELECT rowid AS place, {expression} AS text FROM {table} WHERE rowid BETWEEN {low} AND {high}"
    frames: dict[str, pl.DataFrame] = {}
    if high - low >= _SPARSE * wanted.len():
        sql += " AND rowid IN (SELECT place FROM wanted)"
        frames["wanted"] = wanted.alias("place").to_frame()
    found = store.frame(sql, (), **frames)
    return rows.alias("place").to_frame().join(found, on="place", how="left", maintain_order="left")["text"]


def _ends(rows: pl.Series) -> tuple[int, int]:
    ends: Mapping[str, Any] = rows.to_frame("r").select(low=pl.col("r").min(), high=pl.col("r").max()).row(0, named=True)
    return ends["low"], ends["high"]
