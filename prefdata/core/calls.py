"""The table `calls`: every reply a model was asked for, under the hash of its request. Rows are added and never changed.

Replies arrive as files of JSON lines (the journal of `models/journal.py`), and DuckDB reads such a file itself: no reply
passes through Python a second time. The newest row of an id is the reply that counts; the others were paid for, too.
"""

from __future__ import annotations

import glob
import re
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from prefdata.core.store import Store

_COLUMNS = (
    "{id: 'VARCHAR', model: 'VARCHAR', request: 'JSON', reply: 'JSON', tokens_in: 'INTEGER', tokens_out: 'INTEGER', "
    "cost: 'DOUBLE', seconds: 'DOUBLE', created: 'TIMESTAMP'}"
)
_PREFIX = "('0x' || substr(id, 1, 16))::UBIGINT"
_SIZE = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")


def prefix(identity: str) -> int:
    """The first 64 bits of an id, as kept in memory to know what the store has."""
    return int(identity[:16], 16)


def prefixes(store: Store) -> tuple[array[int], int]:
    """The sorted prefixes of all ids, and the number of rows."""
    if not store.exists:
        return array("Q"), 0
    with store.read() as connection:
        found = _collect(connection.execute(f"SELECT {_PREFIX} AS p FROM calls ORDER BY p"))
    return found, len(found)


def take_in(store: Store, file: Path, seen: int, *, maybe_known: bool = False) -> tuple[int, array[int], int]:
    """Store the lines of `file`; a torn line, as a killed process leaves it, is passed over.

    Args:
        store: where to.
        file: JSON lines with the columns of `calls`.
        seen: how many rows the caller knows of.
        maybe_known: some lines may be stored already (same id, same time), and are not stored twice.

    Returns:
        How many rows were stored, the prefixes of all rows after the first `seen` (other processes add rows, too), and
        the number of rows now.
    """
    path = glob.escape(str(file)).replace("'", "''")
    size = max(_SIZE, file.stat().st_size)
    known = "AND NOT EXISTS (SELECT 1 FROM calls old WHERE old.id = new.id AND old.created = new.created)" if maybe_known else ""
    with store.write() as connection:
        result = connection.execute(
            f"INSERT INTO calls BY NAME SELECT * FROM read_json('{path}', format = 'newline_delimited', ignore_errors = true, "
            f"maximum_object_size = {size}, columns = {_COLUMNS}) new WHERE id IS NOT NULL AND reply IS NOT NULL {known}"
        ).fetchone()
        added = _collect(connection.execute(f"SELECT {_PREFIX} FROM calls WHERE rowid >= {int(seen)}"))
    return int(result[0]) if result else 0, added, seen + len(added)


def replies(store: Store, ids: Iterable[str]) -> list[tuple[str, str, int, int, float]]:
    """The stored replies among `ids`: id, reply as JSON, tokens in and out, seconds; the newest of an id comes last."""
    wanted = ", ".join(f"'{identity}'" for identity in ids if _HASH.fullmatch(identity))
    if not wanted or not store.exists:
        return []
    return store.rows(f"SELECT id, reply, tokens_in, tokens_out, seconds FROM calls WHERE id IN ({wanted}) ORDER BY created")


def _collect(cursor: duckdb.DuckDBPyConnection) -> array[int]:
    out = array("Q")
    while rows := cursor.fetchmany(50_000):
        out.extend(_firsts(rows))
    return out


def _firsts(rows: list[Any]) -> Iterable[int]:
    return (row[0] for row in rows)
