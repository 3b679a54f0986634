"""A user's own question in SQL: one reading statement that can neither change the store nor reach outside it."""

from __future__ import annotations

import re
from typing import Any

import duckdb

from prefdata.core.columns import quoted
from prefdata.core.errors import PrefdataError, UnknownName

ALLOWED = "SELECT, FROM, WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
_ASKS = ("SELECT", "EXPLAIN")
_LOCKED = ("enable_external_access=false", "python_enable_replacements=false", "lock_configuration=true")
"""No file, no network, no Python variable of ours by name, and no way to switch that back."""


def ask(db: duckdb.DuckDBPyConnection, text: str, most: int | None) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names (made unique) and rows of one reading statement."""
    try:
        statements = duckdb.extract_statements(text)
        kinds = [statement.type.name for statement in statements]
        if len(statements) != 1 or kinds[0] not in _ASKS:
            raise PrefdataError(f"{text.strip()[:80]!r} is not one reading statement; allowed: one {ALLOWED}.")
        for setting in _LOCKED:
            db.execute(f"SET {setting}")
        found = _execute(db, statements[0])
        names = _unique([column[0] for column in found.description or ()])
        return names, found.fetchall() if most is None else found.fetchmany(most)
    except duckdb.Error as error:
        raise _plain_error(db, str(error)) from None


def _execute(db: duckdb.DuckDBPyConnection, statement: Any) -> Any:
    """Times with a zone come as text: as Python objects they would need a package that is not among ours."""
    found = db.execute(statement)
    zoned = {column[0] for column in found.description or () if "TIME ZONE" in str(column[1])}
    if not zoned:
        return found
    replaced = ", ".join(f"{quoted(name)}::VARCHAR AS {quoted(name)}" for name in sorted(zoned))
    return db.sql(statement).project(f"* REPLACE ({replaced})")


def _unique(names: list[str]) -> list[str]:
    """a, a, b -> a, a_2, b: two columns of one name would be one in JSON."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def _plain_error(db: duckdb.DuckDBPyConnection, text: str) -> PrefdataError:
    """DuckDB's message as one sentence, with the nearest table or column."""
    table = re.search(r"Table with name (\S+) does not exist", text)
    if table:
        known = [
            row[0]
            for row in db.execute(
                "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        ]
        return UnknownName("table", table[1], known)
    column = re.search(r'column (?:named )?"([^"]+)"', text)
    if column and "Candidate bindings" in text:
        known = [row[0] for row in db.execute("SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal").fetchall()]
        candidates = re.findall(r'"([^"]+)"', text.partition("Candidate bindings")[2].partition("LINE")[0])
        return UnknownName("column", column[1], candidates or known)
    if "disabled by configuration" in text:
        return PrefdataError(
            "prefdata sql reads the store and no other file; for files, open a copy (prefdata snapshot) in your own DuckDB shell."
        )
    sentence = " ".join(re.split(r"\n\s*\n|\nLINE ", text)[0].split())
    return PrefdataError(f"the query failed: {sentence}")
