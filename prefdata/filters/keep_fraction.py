"""Filter: the top or bottom share by one column."""

from __future__ import annotations

from prefdata.core.columns import quoted
from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1,
    subject="pair",
    reasons={"outside_fraction": "not among the share that is kept", "undefined": "the column it is ranked by is null"},
)
def keep_fraction(*, by: str, fraction: float, highest: bool = True, group: str | None = None) -> Sql:
    """Keep `fraction` of the pairs, those highest (or lowest) in one column; ties go by pair id, nulls are dropped.

    Of n pairs with a value, fraction * n rounded down are kept, and at least one of each group.

    Args:
        by: column or signal of a pair, such as length_margin.
        fraction: share kept, above 0 and at most 1.
        highest: keep the highest values (true) or the lowest (false).
        group: column within whose values the share is taken, such as source; null: over all pairs.
    """
    if not 0 < fraction <= 1:
        raise BadValue("filters/keep_fraction: fraction", fraction, "a share above 0 and at most 1")
    within = f"PARTITION BY {quoted(group)}" if group is not None else ""
    column = quoted(by)
    rank = f"row_number() OVER ({within} ORDER BY {column} {'DESC' if highest else 'ASC'} NULLS LAST, pair_id)"
    # 1e-9: 0.57 * 100 is 56.99999999999999 and means 57
    most = f"greatest(1, floor({fraction!r} * count({column}) OVER ({within}) + 1e-9))"
    return Sql({"reason": f"CASE WHEN {column} IS NULL THEN 'undefined' WHEN {rank} > {most} THEN 'outside_fraction' END"})
