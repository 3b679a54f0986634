"""Filter: a moderate margin, and responses that are good enough."""

from __future__ import annotations

from prefdata.core.columns import quoted
from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1,
    subject="pair",
    reasons={
        "too_close": "below the window",
        "too_far": "above the window",
        "level_too_low": "the responses are not good enough",
        "undefined": "the margin or the level is null",
    },
    paper="AIR, arXiv:2504.03612: pairs with a moderate margin and a high level (its bounds depend on the scale of the scores)",
)
def window(
    *,
    low: float | None = None,
    high: float | None = None,
    by: str = "score_margin",
    level: float | None = None,
    level_by: str = "chosen_score",
) -> Sql:
    """Keep pairs whose margin lies between two bounds (both included) and whose level reaches a third.

    The reason is the first that applies: undefined, too_close, too_far, level_too_low.

    Args:
        low: least value of `by`; null: no bound.
        high: greatest value of `by`; null: no bound.
        by: column or signal with the margin.
        level: least value of `level_by`; null: any.
        level_by: column or signal with the level, such as chosen_score.
    """
    if low is None and high is None and level is None:
        raise BadValue("filters/window", "low, high and level all null", "at least one bound")
    if low is not None and high is not None and low > high:
        raise BadValue("filters/window: low", low, f"at most high, which is {high}")
    column, other = quoted(by), quoted(level_by)
    rules = [f"WHEN {column} IS NULL THEN 'undefined'"] if low is not None or high is not None else []
    rules += [f"WHEN {other} IS NULL THEN 'undefined'"] if level is not None else []
    rules += [f"WHEN {column} < {low!r} THEN 'too_close'"] if low is not None else []
    rules += [f"WHEN {column} > {high!r} THEN 'too_far'"] if high is not None else []
    rules += [f"WHEN {other} < {level!r} THEN 'level_too_low'"] if level is not None else []
    return Sql({"reason": f"CASE {' '.join(rules)} END"})
