"""Signal: copies of a pair whose labels prefer the other text."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"contradicted_by": "pairs", "confirmed_by": "pairs"})
def contradiction() -> Sql:
    """How many copies of a pair prefer the other text, and how many prefer the same; null without a winner or with two equal texts.

    A copy has the same prompt (letter case and white space around it aside) and the same two texts. Contradictory votes on one and
    the same pair are no copies: see vote_entropy.
    """
    a, b = "hash(a_text)", "hash(b_text)"
    same = f"PARTITION BY twin, least({a}, {b}), greatest({a}, {b})"
    low = f"((winner = 'a') = ({a} < {b}))"  # the text with the smaller hash won
    won = f"winner IN ('a', 'b') AND {a} <> {b}"
    of_low = f"count(*) FILTER (WHERE {won} AND {low}) OVER ({same})"
    of_high = f"count(*) FILTER (WHERE {won} AND NOT {low}) OVER ({same})"
    return Sql(
        {
            "contradicted_by": f"CASE WHEN {won} THEN CASE WHEN {low} THEN {of_high} ELSE {of_low} END END",
            "confirmed_by": f"CASE WHEN {won} THEN CASE WHEN {low} THEN {of_low} ELSE {of_high} END - 1 END",
        }
    )
