"""Signal: at which stage of a curriculum a pair is trained on."""

from __future__ import annotations

from typing import Literal

from prefdata.core.method import method
from prefdata.core.rows import Sql
from prefdata.core.stages import stage


@method(
    version=1,
    subject="pair",
    gives={"curriculum_stage": "1, 2, ..."},
    paper="Curry-DPO, arXiv:2403.07230 (within a prompt); sDPO, arXiv:2403.19270 (over all pairs)",
)
def curriculum_stage(
    *,
    by: str = "score_margin",
    stages: int = 3,
    easiest: Literal["highest", "lowest"] = "highest",
    within: Literal["prompt", "all"] = "prompt",
) -> Sql:
    """The stage of each pair, 1 for the easiest; null where the column is null, or the prompt has more pairs than there are stages.

    Within a prompt, stage k holds the k-th easiest pair of every prompt, so no prompt's hard pair comes before its easy one.
    Over all pairs, each stage holds an equal share; give a column of the prompt where a prompt must stay in one stage.

    Args:
        by: column or signal that says how easy a pair is, such as score_margin (a wide gap is easy).
        stages: how many.
        easiest: whether the highest or the lowest values are easy.
        within: rank pairs among those of their prompt, or among all.
    """
    return Sql({"curriculum_stage": stage("signals/curriculum_stage", by, stages, easiest, within)})
