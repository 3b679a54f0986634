"""Predicates: what passes, what does not, and which columns they read."""

from __future__ import annotations

import pytest

from prefdata.core.errors import PrefdataError
from prefdata.core.expressions import check_expression, referenced


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("margin >= 0.2 and length_ratio < 3", {"margin", "length_ratio"}),
        ("percent_rank() over (partition by source order by ln_ches) < 0.5", {"source", "ln_ches"}),
        ("meta->>'category' = 'code' -- a comment", {"meta"}),
        ("len(list_filter([a_chars, b_chars], x -> x > 3)) = 2", {"a_chars", "b_chars"}),
        ("prompt like '%;%'", {"prompt"}),
    ],
)
def test_expressions_pass_and_name_their_columns(expression: str, columns: set[str]) -> None:
    assert expression in check_expression(expression)
    assert referenced(expression) == columns


@pytest.mark.parametrize(
    "expression",
    [
        "1; drop table pairs",
        "1) from pairs; select (1",
        "1) from pairs --",
        "1), (2",
        "(select count(*) from pairs) > 1",
        "exists (from calls)",
        "read_text('/etc/passwd') is null",
        "getenv('HOME') = ''",
        "margin >=",
        "",
    ],
)
def test_everything_else_is_refused(expression: str) -> None:
    with pytest.raises(PrefdataError):
        check_expression(expression)
