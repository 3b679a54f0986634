"""Aggregate: the choice with the most votes."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair")
def majority(*, of: list[str] | None = None, min_votes: int = 1) -> Sql:
    """The choice with the most votes; where two lead together there is no winner (null), never a tie by accident.

    p_a and p_tie are shares of all votes ("both bad" counts as a tie), margin = |votes a - votes b| / votes, confidence
    the winner's share.

    Args:
        of: annotator ids or kinds (human, llm, verifier, imported, ...) whose votes count, or, with a minus before them, do not:
            [human, "-imported:my_set"] leaves out the label that came with the pairs of my_set; null: everyone's.
        min_votes: pairs with fewer votes get no winner.
    """
    tie, top = "(n_tie + n_both_bad)", "greatest(n_a, n_b, n_tie + n_both_bad)"
    leaders = f"((n_a = {top})::INT + (n_b = {top})::INT + ({tie} = {top})::INT)"
    winner = f"CASE WHEN n < {int(min_votes)} OR {leaders} > 1 THEN NULL WHEN n_a = {top} THEN 'a' WHEN n_b = {top} THEN 'b' ELSE 'tie' END"
    return Sql(
        {
            "p_a": "n_a / n",
            "p_tie": f"{tie} / n",
            "winner": winner,
            "margin": "abs(n_a - n_b) / n",
            "confidence": f"{top} / n",
            "votes": "n",
        }
    )
