"""Pairing: what a strategy meant to be better against what it meant to be worse."""

from __future__ import annotations

import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.method import method

PARENTS = "parents"
"""Not a role: whatever a response of the other side was made from."""


@method(version=1, subject="response", needs=("role", "parents", "params", "text_hash"))
def by_role(rows: pl.DataFrame, *, better: str | list[str], worse: str | list[str], most: int | None = None) -> pl.DataFrame:
    """Pairs of the responses of one prompt whose roles are named, such as revised against draft; equal texts make no pair.

    A response that was made from one of the other side pairs with that one only (a revision with its own draft); all others
    pair with every one of the other side. Responses whose params name a `set` pair within their set. No label is given here: a judge
    (by_construction, or any other) says which one is better.

    Args:
        better: role or roles on one side; `parents` stands for whatever a response of the other side was made from, whichever
            role that has (a draft may have come from another step).
        worse: role or roles on the other side.
        most: at most this many pairs per prompt, in the order of the responses; null: all of them.
    """
    sides = [[better] if isinstance(better, str) else better, [worse] if isinstance(worse, str) else worse]
    shared = set(sides[0]) & set(sides[1])
    if not all(sides) or shared:
        raise BadValue("better and worse", (better, worse), "one role or several for each, none of them on both sides")
    known = rows.with_row_index("at").select(
        "at", "prompt_id", pl.col("response_id").cast(pl.String), "role", "text_hash",
        pl.col("parents").fill_null("[]").str.json_decode(pl.List(pl.String)).alias("made_from"),
        pl.col("params").fill_null("{}").str.json_path_match("$.set").alias("set"),
    )  # fmt: skip
    named = [known.filter(pl.col("role").is_in(side)) for side in sides]
    links = _links(named, known, [PARENTS in side for side in sides])
    tied = [set(links["at"]), set(links["at_2"])]
    free = [one.filter(~pl.col("at").is_in(list(tied[side]))) for side, one in enumerate(named)]
    crossed = free[0].join(free[1], on=["prompt_id", "set"], nulls_equal=True, suffix="_2")
    columns = ("prompt_id", "at", "response_id", "text_hash", "at_2", "response_id_2", "text_hash_2")
    pairs = pl.concat([links.select(columns), crossed.select(columns)]).unique(["at", "at_2"])
    pairs = pairs.filter(pl.col("text_hash") != pl.col("text_hash_2")).sort(
        pl.min_horizontal("at", "at_2"), pl.max_horizontal("at", "at_2")
    )
    if most is not None:
        pairs = pairs.filter(pl.int_range(pl.len()).over("prompt_id") < most)
    return pairs.select(pl.col("response_id").alias("first"), pl.col("response_id_2").alias("second"))


def _links(named: list[pl.DataFrame], known: pl.DataFrame, any_parent: list[bool]) -> pl.DataFrame:
    """Child and parent on opposite sides, the better one first; a parent of any role where its side says `parents`."""
    both = []
    for child in (0, 1):
        parents = known if any_parent[1 - child] else named[1 - child]
        made = named[child].explode("made_from").drop_nulls("made_from")
        joined = made.join(
            parents, left_on=["prompt_id", "made_from"], right_on=["prompt_id", "response_id"], suffix="_2", coalesce=False
        ).drop("prompt_id_2")
        if child == 1:
            swap = {f"{name}{a}": f"{name}{b}" for name in ("at", "response_id", "text_hash") for a, b in (("", "_2"), ("_2", ""))}
            joined = joined.rename(swap)
        both.append(joined.select("prompt_id", "at", "response_id", "text_hash", "at_2", "response_id_2", "text_hash_2"))
    return pl.concat(both)
