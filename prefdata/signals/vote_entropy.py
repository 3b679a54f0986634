"""Signal: how split the votes on a pair are."""

from __future__ import annotations

from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", gives={"vote_entropy": "share of the maximum ln 3, 0 to 1"})
def vote_entropy() -> Sql:
    """Entropy of P(a better), P(b better) and P(tie) by the labels over its maximum ln 3: 0 where all agree; null without a label.

    Labels of the majority hold the shares of the votes, so this is the entropy of the votes; those of a model hold what the
    model expects.
    """
    shares = ("p_a", "p_tie", "1 - p_a - p_tie")
    terms = " + ".join(f"CASE WHEN {p} > 1e-12 THEN -({p}) * ln({p}) ELSE 0 END" for p in shares)
    return Sql({"vote_entropy": f"CASE WHEN p_a IS NOT NULL AND p_tie IS NOT NULL THEN ({terms}) / ln(3) END"})
