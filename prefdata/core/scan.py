"""Rows with their texts, chunk by chunk, in store order.

Decide on narrow columns, then fetch the texts: a first pass reads ids and row numbers only; each chunk then reads the
stretches of the text tables its rows lie in (neighbours were imported together) and picks its rows from them. No join
ever carries a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import numpy as np
import polars as pl

from prefdata.core.columns import PROMPT, TEXTS, Keys, relation
from prefdata.core.errors import StoreError
from prefdata.core.store import Store

CHUNK = 30_000
_SPARSE = 4
"""A stretch more than this many times longer than the rows wanted from it is not read whole."""
_GAP, _STRETCHES = 10_000, 32
"""Rows further apart than this lie in different stretches; more stretches than this are read as one sparse stretch."""


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
    """The second pass: frames of at most `chunk` rows of an index made by `locate`, with their texts.

    The next frame is read while the caller works on the last.
    """
    names = list(dict.fromkeys(names))
    wide = [n for n in names if n in TEXTS]

    def one(start: int) -> pl.DataFrame:
        part = index.slice(start, chunk)
        full = _with_texts(store, subject, part, wide) if wide else part
        return full.select("id", *(pl.col("id").alias(n) if n == f"{subject}_id" else n for n in names))

    with ThreadPoolExecutor(1, thread_name_prefix="prefdata-read") as reader:
        coming = reader.submit(one, 0) if index.height else None
        for start in range(chunk, index.height + chunk, chunk):
            if coming is None:
                return
            frame = coming.result()
            coming = reader.submit(one, start) if start < index.height else None
            yield frame
            del frame


def locate(
    store: Store,
    subject: str,
    names: Iterable[str],
    keys: Keys,
    *,
    only: pl.DataFrame | None = None,
    also: Mapping[str, str] | None = None,
    given: Mapping[str, object] | None = None,
) -> pl.DataFrame:
    """The narrow pass: `id`, every column of `names` but texts (and but the subject's own id again), and their row numbers.

    Args:
        also: further columns: name -> SQL expression over those of `names`, with the parameters `given`.
        only: a frame whose `id` says which rows; further columns of it come along.
    """
    names = [n for n in dict.fromkeys(names) if n != f"{subject}_id"]
    wide = [n for n in names if n in TEXTS]
    anchors = ["a_row", "b_row"] if any(n.endswith("_text") for n in wide) else []
    anchors += ["p_row"] if {"prompt", "messages"} & set(wide) else []
    if any(n.startswith(("chosen", "rejected")) for n in wide):
        anchors.append("winner")
    rel = relation(subject, [*(n for n in names if n not in wide), *anchors], keys)
    columns = "x.*" + "".join(f", {expression} AS {name}" for name, expression in (also or {}).items())
    join = ""
    frames: dict[str, pl.DataFrame] = {}
    if only is not None:
        join = " JOIN only_ids ON only_ids.id = x.id"
        columns += "".join(f", only_ids.{name}" for name in only.columns if name != "id")
        frames["only_ids"] = only
    found = store.frame(f"SELECT {columns} FROM ({rel.sql}) x{join}", {**rel.parameters, **(given or {})}, **frames)
    return found if found["row"].is_sorted() else found.sort("row")  # cheaper than a sort of wide rows that are mostly in order


def _with_texts(store: Store, subject: str, part: pl.DataFrame, wide: list[str]) -> pl.DataFrame:
    texts: dict[str, pl.Series] = {}
    with store.read() as db:
        if subject == "response" and "text" in wide:
            texts["text"] = _fetch(db, "responses", "text", part["row"])
        if "a_row" in part.columns:
            both = _fetch(db, "responses", "text", pl.concat([part["a_row"], part["b_row"]]))
            texts["a_text"], texts["b_text"] = both.head(part.height), both.tail(part.height)
        for name in ("prompt", "messages"):
            if name in wide:
                texts[name] = _fetch(db, "prompts", PROMPT[name].replace("pr.", ""), part["p_row"])
    full = part.with_columns(series.alias(name) for name, series in texts.items())
    if "winner" not in part.columns or "a_text" not in texts:
        return full
    a, b, winner = pl.col("a_text"), pl.col("b_text"), pl.col("winner")
    return full.with_columns(
        chosen_text=pl.when(winner == "a").then(a).when(winner == "b").then(b),
        rejected_text=pl.when(winner == "a").then(b).when(winner == "b").then(a),
    )


def _fetch(db: duckdb.DuckDBPyConnection, table: str, expression: str, rows: pl.Series) -> pl.Series:
    """The texts at these row numbers, in this order."""
    places = rows.to_numpy()
    wanted = np.unique(places)
    parts = np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP) + 1)
    frames = [_stretch(db, table, expression, part) for part in (parts if len(parts) <= _STRETCHES else [wanted])]
    found = pl.concat(frames) if len(frames) > 1 else frames[0]
    there = found["place"].to_numpy()
    at = np.searchsorted(there, places).clip(max=max(len(there) - 1, 0))
    if len(wanted) and not (len(there) and np.array_equal(there[at], places)):
        raise StoreError(f"rows of {table} went away while they were read; run the same command again.")
    return found["text"].gather(at)


def _stretch(db: duckdb.DuckDBPyConnection, table: str, expression: str, wanted: np.ndarray[Any, Any]) -> pl.DataFrame:
    """place and text of the rows wanted, perhaps with others between them, by place."""
    if not len(wanted):
        return pl.DataFrame(schema={"place": pl.Int64, "text": pl.String})
    low, high = int(wanted[0]), int(wanted[-1])
    sql = f"SELECT rowid AS place, {expression} AS text FROM {table} WHERE rowid BETWEEN {low} AND {high}"
    if high - low >= _SPARSE * len(wanted):
        db.register("wanted", pl.DataFrame({"place": wanted}))
        sql += " AND rowid IN (SELECT place FROM wanted)"
    found = db.execute(sql).pl()
    return found if found["place"].is_sorted() else found.sort("place")
