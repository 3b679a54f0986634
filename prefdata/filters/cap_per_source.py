"""Filter: no more than so many pairs of one source."""

from __future__ import annotations

from prefdata.core.columns import quoted
from prefdata.core.drawing import order
from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", reasons={"over_cap": "its source has enough pairs already"})
def cap_per_source(*, most: int, by: str | None = None, highest: bool = True, group: str = "source", seed: int = 0) -> Sql:
    """Keep at most so many pairs of each source: those highest or lowest in a column (nulls come last), or drawn at random.

    Args:
        most: pairs kept of each source.
        by: column or signal that decides which, such as margin; null: drawn at random.
        highest: keep the highest values (true) or the lowest (false).
        group: the column that is capped, such as source, prompt_id or a signal; pairs where it is null are one group.
        seed: for the draw; another number draws other pairs.
    """
    if most < 0:
        raise BadValue("filters/cap_per_source: most", most, "0 or more")
    ranked = f"{quoted(by)} {'DESC' if highest else 'ASC'} NULLS LAST" if by is not None else order(seed)
    rank = f"row_number() OVER (PARTITION BY {quoted(group)} ORDER BY {ranked}, pair_id)"
    return Sql({"reason": f"CASE WHEN {rank} > {int(most)} THEN 'over_cap' END"})
