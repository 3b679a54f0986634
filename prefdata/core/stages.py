"""Stages of a curriculum, as one SQL expression over the columns of a pair."""

from __future__ import annotations

from typing import Literal

from prefdata.core.columns import quoted
from prefdata.core.errors import BadValue

Within = Literal["prompt", "all"]


def stage(who: str, by: str, stages: int, easiest: Literal["highest", "lowest"], within: Within) -> str:
    """The pair's stage, 1 for the easiest; null where `by` is null, or beyond the last stage of its prompt.

    Within a prompt the easiest pair is in stage 1, the next in stage 2, ...; over all pairs each stage has an equal share, and
    equal values stay together.
    """
    if stages < 1:
        raise BadValue(f"{who}: stages", stages, "1 or more")
    column = quoted(by)
    order = f"ORDER BY {column} {'DESC' if easiest == 'highest' else 'ASC'} NULLS LAST"
    if within == "prompt":
        place = f"row_number() OVER (PARTITION BY prompt_id {order}, pair_id)"
        return f"CASE WHEN {column} IS NOT NULL AND {place} <= {int(stages)} THEN {place} END"
    share = f"(rank() OVER ({order}) - 1) * {int(stages)} // count({column}) OVER ()"
    return f"CASE WHEN {column} IS NOT NULL THEN 1 + {share} END"
