"""Filter: one stage of a curriculum."""

from __future__ import annotations

from typing import Literal

from prefdata.core.columns import quoted
from prefdata.core.errors import BadValue
from prefdata.core.method import method
from prefdata.core.rows import Sql
from prefdata.core.stages import stage as stage_of


@method(
    version=1,
    subject="pair",
    reasons={
        "other_stage": "trained on at another stage",
        "beyond_stages": "its prompt has easier pairs for every stage",
        "undefined": "the column it is ranked by is null",
    },
    paper="Curry-DPO, arXiv:2403.07230 (within a prompt); sDPO, arXiv:2403.19270 (over all pairs)",
)
def curriculum(
    *,
    stage: int,
    by: str = "score_margin",
    stages: int = 3,
    easiest: Literal["highest", "lowest"] = "highest",
    within: Literal["prompt", "all"] = "prompt",
) -> Sql:
    """Keep the pairs of one stage of a curriculum, 1 being the easiest: one export for each stage, easy to hard.

    Within a prompt, stage k holds the k-th easiest pair of every prompt. Over all pairs, each stage holds an equal share; give a
    column of the prompt where a prompt must stay in one stage. The signal curriculum_stage tells all stages at once.

    Args:
        stage: which stage is kept, 1 to `stages`.
        by: column or signal that says how easy a pair is, such as score_margin (a wide gap is easy).
        stages: how many there are.
        easiest: whether the highest or the lowest values are easy.
        within: rank pairs among those of their prompt, or among all.
    """
    if not 1 <= stage <= stages:
        raise BadValue("filters/curriculum: stage", stage, f"1 to {stages}")
    number = stage_of("filters/curriculum", by, stages, easiest, within)
    return Sql(
        {
            "reason": f"""CASE WHEN {quoted(by)} IS NULL THEN 'undefined' WHEN ({number}) IS NULL THEN 'beyond_stages'
            WHEN ({number}) <> {int(stage)} THEN 'other_stage' END"""
        }
    )
