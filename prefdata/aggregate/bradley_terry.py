"""Aggregate: strengths of responses or of models from all their comparisons."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from prefdata.core.errors import BadValue
from prefdata.core.games import Games, standings, told
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.strengths import errors, fit_edges, outcome


@method(
    version=1,
    subject="pair",
    needs=("a_id", "b_id", "a_model", "b_model"),
    paper="Bradley & Terry 1952; Davidson 1970; Rao & Kupper 1967",
)
def bradley_terry(
    pool: pl.DataFrame,
    *,
    of: list[str] | None = None,
    level: Literal["prompt", "model"] = "prompt",
    ties: Literal["davidson", "rao_kupper", "half"] = "davidson",
    l2: float = 0.1,
    infer: bool = False,
) -> Labels:
    """P(a better) and P(tie) from log-strengths fitted to all votes; the winner is the likeliest outcome, null where two lead.

    margin = |P(a) - P(b)|, confidence = P of the likeliest outcome, votes = votes on the pair itself. A "both bad" vote is a tie.
    Strengths compare within a connected component only: there is no label across components, for a model against itself
    or where a model is not known. One tie parameter is fitted for all. At the level of models the step's report lists
    their strengths with standard errors, names those that won or lost everything, and says where groups never met.

    Args:
        of: annotator ids or kinds (human, llm, verifier, imported, ...) whose votes count, or, with a minus before them, do not:
            [human, "-imported:my_set"] leaves out the label that came with the pairs of my_set; null: everyone's.
        level: what has a strength: each response among those of its prompt, or each model over all prompts.
        ties: how ties enter: with a probability of their own (davidson, rao_kupper), or as half a win each (half; P(tie) is 0).
        l2: ridge on log-strengths, as if they were drawn with standard deviation 1/sqrt(l2). Above 0, because a
            response that won every vote has no finite strength otherwise, and its P would be 1 after a single vote.
        infer: also label pairs nobody voted on, from the strengths of their two sides.
    """
    if not l2 > 0:
        raise BadValue("aggregate/bradley_terry: l2", l2, "a number above 0", "A side that never lost has no finite strength without it.")
    games = Games.of(pool, level)
    model = fit_edges(games.edges, ties_as=ties, l2=l2)
    p_a, p_tie = outcome(games.differences(model.strength), ties, model.tie)
    known = games.comparable
    frame = label_frame(pool["id"], np.where(known, p_a, np.nan), np.where(known, p_tie, np.nan), pool["n"])
    frame = frame.filter(pl.lit(infer) | (pl.col("votes") > 0))
    detail = {"rounds": model.rounds, "tie_parameter": model.tie if np.isfinite(model.tie) else None}
    if level == "model":
        rows = standings(games, strength=model.strength, standard_error=errors(games.edges, model, ties, l2))
        detail |= table("models", rows, by="strength")
    unanimous = "all votes are ties: P(tie) is 1." if np.isinf(model.tie) else None
    return Labels(frame, {**detail, **notes(*told(games, level), unanimous, undecided(frame))})
