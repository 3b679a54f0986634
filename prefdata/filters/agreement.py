"""Filter: pairs on which enough voices agree."""

from __future__ import annotations

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1,
    subject="pair",
    reasons={
        "no_votes": "nobody voted",
        "too_few_votes": "fewer votes than asked for",
        "no_winner": "the votes name no winner",
        "disagreement": "too few of the votes are for the winner",
    },
)
def agreement(*, least: float = 0.75, min_votes: int = 2) -> Sql:
    """Keep pairs with enough votes of which a large enough share is for the winner (a tie may win).

    The share is the confidence of the labels: the winner's share of the votes under the majority, its probability under a model.

    Args:
        least: least share, 0 to 1.
        min_votes: fewest votes; one voice always agrees with itself.
    """
    if not 0 <= least <= 1:
        raise BadValue("filters/agreement: least", least, "a share from 0 to 1")
    # 1e-9: two thirds of three votes are 0.6666666666666666 and mean 0.6666666666666667
    return Sql(
        {
            "reason": f"""CASE WHEN votes IS NULL OR votes = 0 THEN 'no_votes' WHEN votes < {int(min_votes)} THEN 'too_few_votes'
            WHEN winner IS NULL THEN 'no_winner' WHEN confidence IS NULL OR confidence < {least!r} - 1e-9 THEN 'disagreement' END"""
        }
    )
