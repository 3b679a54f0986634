"""Signal: how much longer the chosen response is."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"length_margin": "characters", "length_ratio": "ratio"})
def length_margin() -> Sql:
    """Characters of chosen minus rejected, and the longer over the shorter; null without a winner or with an empty text."""
    return Sql(
        {
            "length_margin": "chosen_chars - rejected_chars",
            "length_ratio": "greatest(a_chars, b_chars) / nullif(least(a_chars, b_chars), 0)",
        }
    )
