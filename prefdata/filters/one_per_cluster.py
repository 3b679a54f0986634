"""Filter: a few pairs of each cluster."""

from __future__ import annotations

from prefdata.core.columns import quoted
from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1,
    subject="pair",
    reasons={"not_first": "other pairs of this cluster are kept", "no_cluster": "the column that names the cluster is null"},
)
def one_per_cluster(*, cluster: str, by: str | None = None, highest: bool = True, keep: int = 1) -> Sql:
    """Keep one pair of each cluster (or `keep` of them): those highest or lowest in a column; ties go by pair id, nulls come last.

    Args:
        cluster: column or signal whose values name the clusters.
        by: column or signal that ranks the pairs of a cluster, such as margin; null: the smallest pair id, which has nothing to do
            with quality.
        highest: keep the highest values (true) or the lowest (false).
        keep: how many of each cluster.
    """
    if keep < 1:
        raise BadValue("filters/one_per_cluster: keep", keep, "1 or more")
    order = f"{quoted(by)} {'DESC' if highest else 'ASC'} NULLS LAST, " if by is not None else ""
    rank = f"row_number() OVER (PARTITION BY {quoted(cluster)} ORDER BY {order}pair_id)"
    return Sql({"reason": f"CASE WHEN {quoted(cluster)} IS NULL THEN 'no_cluster' WHEN {rank} > {int(keep)} THEN 'not_first' END"})
