"""Signal: how sure the labels are that the chosen response is the better one."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"label_margin": "difference of probabilities, 0 to 1"})
def label_margin() -> Sql:
    """P(chosen better) minus P(rejected better) by the labels; null without a winner or where the winner is a tie."""
    return Sql({"label_margin": "CASE winner WHEN 'a' THEN 2 * p_a + p_tie - 1 WHEN 'b' THEN 1 - 2 * p_a - p_tie END"})
