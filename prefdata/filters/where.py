"""Filter: an SQL predicate over the columns of a pair."""

from __future__ import annotations

from prefdata.core.expressions import check_expression
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1, subject="pair", reasons={"*": "the predicate does not hold", "unknown": "the predicate is null: a value it reads is missing"}
)
def where(*, keep: str, reason: str = "where") -> Sql:
    """Keep the pairs for which the predicate holds; a pair for which it is null is dropped as `unknown`.

    Args:
        keep: one SQL expression over columns and signals; window functions are allowed, so a quantile is
            `percent_rank() over (order by length_margin) < 0.5`.
        reason: the code written beside every pair this drops.
    """
    check_expression(keep)  # the user's own words, before ours stand around them
    code = reason.replace("'", "''")
    return Sql({"reason": f"CASE WHEN ({keep}\n) THEN NULL WHEN ({keep}\n) IS NULL THEN 'unknown' ELSE '{code}' END"})
