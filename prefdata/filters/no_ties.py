"""Filter: pairs somebody won."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1, subject="pair", reasons={"tie": "the label is a tie", "no_winner": "the votes name no winner", "no_votes": "nobody voted"}
)
def no_ties() -> Sql:
    """Keep pairs with a winner; the rest is dropped as a tie, for want of a winner, or for want of votes."""
    return Sql(
        {"reason": "CASE WHEN votes IS NULL THEN 'no_votes' WHEN winner IS NULL THEN 'no_winner' WHEN winner = 'tie' THEN 'tie' END"}
    )
