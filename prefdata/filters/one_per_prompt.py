"""Filter: one pair of each prompt."""

from __future__ import annotations

from prefdata.core.columns import quoted
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", reasons={"not_first": "another pair of this prompt is kept"})
def one_per_prompt(*, by: str | None = None, highest: bool = True) -> Sql:
    """Keep exactly one pair per prompt: the highest (or lowest) in one column; ties go by pair id, nulls come last.

    Args:
        by: column or signal of a pair, such as margin; null: the smallest pair id, which has nothing to do with quality.
        highest: keep the highest value (true) or the lowest (false).
    """
    order = f"{quoted(by)} {'DESC' if highest else 'ASC'} NULLS LAST, " if by is not None else ""
    return Sql({"reason": f"CASE WHEN row_number() OVER (PARTITION BY prompt_id ORDER BY {order}pair_id) > 1 THEN 'not_first' END"})
