"""Signal: how likely the two responses of a pair are equally good."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"tie_probability": "probability"})
def tie_probability() -> Sql:
    """P(tie) by the labels: the share of tie votes under the majority, the fitted probability under a model; null without a label."""
    return Sql({"tie_probability": "p_tie"})
