"""Signal: pairs that stand in the store more than once."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"copies": "pairs", "copy_rank": "0, 1, 2, ...", "same_text": "1 or 0"})
def exact_duplicate() -> Sql:
    """How many pairs have the same prompt and the same two texts, the pair's place among them, and whether its two texts are one.

    Whatever differs beside the texts (source, models, which side is a) does not count, nor do letter case and white space around
    the prompt. copies includes the pair itself; copy_rank is 0 for the one with the smallest id, so that
    `where: {keep: "copy_rank = 0"}` keeps one of each. Rows that are equal in everything are one pair already when they are imported.
    """
    a, b = "hash(a_text)", "hash(b_text)"
    same = f"PARTITION BY twin, least({a}, {b}), greatest({a}, {b})"
    return Sql(
        {
            "copies": f"count(*) OVER ({same})",
            "copy_rank": f"row_number() OVER ({same} ORDER BY pair_id) - 1",
            "same_text": "(a_text = b_text)::INT",
        }
    )
