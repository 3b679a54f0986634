"""Signal: how much better the chosen response was scored."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"score_margin": "the scores' own unit"})
def score_margin() -> Sql:
    """Mean score of chosen minus that of rejected; null without a winner or where a side has no score, negative where they disagree.

    Scores are those of the two responses, each annotator counting once; failing these, the scores that judgements of the
    pair gave to its two sides.
    """
    return Sql({"score_margin": "chosen_score - rejected_score"})
