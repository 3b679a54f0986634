"""Filter: as many pairs of one kind as of the next."""

from __future__ import annotations

from prefdata.core.columns import quoted
from prefdata.core.drawing import order
from prefdata.core.errors import BadValue
from prefdata.core.expressions import check_expression
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1,
    subject="pair",
    reasons={"over_represented": "drawn out: its kind is more frequent than the rarest", "undefined": "the kind is null"},
)
def balance(*, by: str, within: str | None = None, ratio: float = 1.0, seed: int = 0) -> Sql:
    """Keep as many pairs of each kind as the rarest kind has, drawn at random.

    Balanced in length: `by: "sign(chosen_chars - rejected_chars)"` leaves as many pairs whose chosen response is the longer one as
    pairs whose chosen response is the shorter one (and as pairs of equal lengths, if there are any: drop these first). Balanced in
    source: `by: source`; in topic: `by: cluster`.

    Args:
        by: column, signal or SQL expression whose values are the kinds.
        within: column within whose values the kinds are balanced, such as source; null: over all pairs. Where a kind is missing from
            one of them, those that are there are balanced among themselves.
        ratio: a kind may have this many times the pairs of the rarest, rounded down; 1 for equal numbers.
        seed: another number draws other pairs.
    """
    if not ratio >= 1:
        raise BadValue("filters/balance: ratio", ratio, "1 or more")
    kind = check_expression(by)  # the user's own words, before ours stand around them
    group = f"PARTITION BY {quoted(within)}" if within is not None else ""
    rarest = f"list_min(map_values(histogram({kind}) OVER ({group})))"
    rank = f"row_number() OVER (PARTITION BY {f'{quoted(within)}, ' if within is not None else ''}{kind} ORDER BY {order(seed)}, pair_id)"
    most = f"floor({ratio!r} * {rarest} + 1e-9)"
    return Sql({"reason": f"CASE WHEN {kind} IS NULL THEN 'undefined' WHEN {rank} > {most} THEN 'over_represented' END"})
