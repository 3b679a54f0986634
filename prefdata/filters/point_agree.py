"""Filter: pairs whose label and whose scores agree."""

from __future__ import annotations

from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(
    version=1,
    subject="pair",
    reasons={
        "no_winner": "the label names no side",
        "no_scores": "a side has no score",
        "contradicts": "the rejected response has the higher score",
        "too_close": "the scores are too close to confirm the label",
    },
)
def point_agree(*, min_gap: float = 0.0) -> Sql:
    """Keep pairs whose chosen response also has the higher score: two independent judgements that agree.

    Scores are those of the two responses, each annotator counting once; failing these, the scores that judgements of the pair gave
    to its two sides. Let the label come from others than the scores (`of` of the aggregate), or they cannot disagree.

    Args:
        min_gap: keep only where the scores differ by more than this, in their own unit.
    """
    if min_gap < 0:
        raise BadValue("filters/point_agree: min_gap", min_gap, "0 or more")
    gap = "(chosen_score - rejected_score)"
    return Sql(
        {
            "reason": f"""CASE WHEN winner IS NULL OR winner = 'tie' THEN 'no_winner' WHEN {gap} IS NULL THEN 'no_scores'
            WHEN {gap} < 0 THEN 'contradicts' WHEN {gap} <= {min_gap!r} THEN 'too_close' END"""
        }
    )
