"""SQL expressions from recipes and methods: parsed by DuckDB, checked, never statements.

What passes is one expression over named columns: no subquery, no table function, no second statement.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import duckdb

from prefdata.core.errors import PrefdataError, UnknownName

_FORBIDDEN_FUNCTIONS = ("read_", "glob", "getenv", "query", "parquet_", "sniff_", "duckdb_", "pragma_", "current_setting", "write_")
_parser = threading.local()


def check_expression(expression: str, allowed: Iterable[str] | None = None) -> str:
    """The expression in parentheses, or an error that says what is wrong with it.

    Args:
        expression: SQL.
        allowed: names of the columns it may read; None: any.
    """
    for node in _nodes(_parse(expression)):
        if node.get("class") == "SUBQUERY" or node.get("type") == "SUBQUERY":
            raise PrefdataError(
                f"the expression {expression!r} holds a subquery; allowed: one expression over columns, window functions included."
            )
        name = str(node.get("function_name", "")).lower()
        if name and name.startswith(_FORBIDDEN_FUNCTIONS):
            raise PrefdataError(
                f"the expression {expression!r} calls {name}(), which reaches outside the rows; allowed: functions of columns."
            )
    if allowed is not None:
        allowed = list(allowed)
        for name in sorted(_columns(expression)):
            if name not in allowed:
                raise UnknownName("column", name, allowed, f" in the expression {expression!r}")
    return f"({expression}\n)"


def referenced(expression: str) -> set[str]:
    """Names of the columns an expression reads."""
    check_expression(expression)
    return _columns(expression)


def _columns(expression: str) -> set[str]:
    found = set()
    for node in _nodes(_parse(expression)):
        if node.get("class") == "COLUMN_REF":
            found.add(".".join(node["column_names"]))
    return found - _lambda_names(expression)


def _lambda_names(expression: str) -> set[str]:
    names: set[str] = set()
    for node in _nodes(_parse(expression)):
        if node.get("class") == "LAMBDA":
            names |= {".".join(n["column_names"]) for n in _nodes(node.get("lhs")) if n.get("class") == "COLUMN_REF"}
    return names


def _parse(expression: str) -> dict[str, Any]:
    if not hasattr(_parser, "connection"):
        _parser.connection = duckdb.connect(":memory:")
    # Wrapped in parentheses and on a line of its own, so that neither a comment nor a comma can escape; first without them,
    # so that a parenthesis of its own cannot close ours.
    for left, right in (("", ""), ("(", ")")):
        wrapped = f"SELECT json_serialize_sql('SELECT {left}' || ? || chr(10) || '{right} FROM rows')"
        parsed: dict[str, Any] = json.loads(_parser.connection.execute(wrapped, [expression]).fetchone()[0])
        if parsed.get("error"):
            raise PrefdataError(f"the expression {expression!r} is not SQL: {parsed.get('error_message', 'syntax error')}.")
    statements = parsed["statements"]
    selected = statements[0]["node"].pop("select_list", [])
    if len(statements) != 1 or len(selected) != 1 or _shape(statements[0]) != _shape(_dummy()):
        raise PrefdataError(f"the expression {expression!r} is more than one expression; allowed: one expression over columns.")
    return {"expression": selected[0]}


def _dummy() -> Any:
    """The statement that stands around an expression, without it."""
    row = _parser.connection.execute("SELECT json_serialize_sql('SELECT (1) FROM rows')").fetchone()
    statement = json.loads(row[0])["statements"][0]
    statement["node"].pop("select_list")
    return statement


def _shape(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _shape(v) for k, v in tree.items() if k != "query_location"}
    return [_shape(v) for v in tree] if isinstance(tree, list) else tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
