"""Columns that no shape knows -> one JSON object per row: typed columns at once, irregular ones value by value."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import polars as pl

from prefdata.core.reading.chunk import Values


def meta_json(
    columns: Mapping[str, Values], *, flatten: tuple[str, ...] = (), unwritable: MutableMapping[int, str] | None = None, height: int = 0
) -> pl.Series:
    """One JSON object per row, null where it would be empty. Nulls and binary values are left out.

    Args:
        flatten: columns whose objects' entries join the object instead of nesting in it.
        unwritable: takes the rows that hold what JSON cannot express (infinity, endless nesting), and the column it is in.
    """
    parts = []
    for name, values in columns.items():
        if isinstance(values, pl.Series) and (values.dtype == pl.Binary or values.null_count() == len(values)):
            continue
        if isinstance(values, pl.Series) and _plain(values.dtype) and name not in flatten:
            parts.append(_typed(name, values))
        else:
            parts.append(_irregular(name, values, name in flatten, unwritable))
    if not parts:
        return pl.repeat(None, height or len(next(iter(columns.values()), ())), dtype=pl.String, eager=True)
    joined = pl.select(pl.concat_str(parts, separator=",", ignore_nulls=True).alias("meta"))
    return joined.select(pl.when(pl.col("meta") != "").then(pl.concat_str(pl.lit("{"), "meta", pl.lit("}")))).to_series()


def _plain(dtype: pl.DataType) -> bool:
    """Whether Polars writes values of this type as Python would."""
    if isinstance(dtype, pl.List):
        return _plain(cast(pl.DataType, dtype.inner))
    if isinstance(dtype, pl.Struct):
        return all(_plain(cast(pl.DataType, part)) for part in dtype.to_schema().values())
    return dtype in (pl.String, pl.Boolean) or dtype.is_integer() or dtype.is_float()


def _typed(name: str, values: pl.Series) -> pl.Series:
    """`"name":value` per row, null where the value is."""
    values = values.fill_nan(None) if values.dtype.is_float() else values
    value = pl.struct(v="c").struct.json_encode().str.slice(5).str.head(-1)
    both = pl.concat_str(pl.lit(json.dumps(name, ensure_ascii=False) + ":"), value)
    return pl.DataFrame({"c": values}).select(pl.when(pl.col("c").is_not_null()).then(both)).to_series()


def _irregular(name: str, values: Values, flat: bool, unwritable: MutableMapping[int, str] | None) -> pl.Series:
    out: list[str | None] = []
    for index, value in enumerate(values.to_list() if isinstance(values, pl.Series) else values):
        entries = value if flat and isinstance(value, dict) else {name: value}
        entries = {key: part for key, part in entries.items() if part is not None}
        try:
            out.append(_dumps(entries)[1:-1] or None)
        except (RecursionError, ValueError):
            out.append(None)
            if unwritable is not None:
                unwritable.setdefault(index, name)
    return pl.Series(out, dtype=pl.String)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
