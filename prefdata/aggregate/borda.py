"""Aggregate: Borda points, every annotator's ballot counting once."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core.games import Games, plays, standings, told
from prefdata.core.labels import Labels, label_frame, notes, table, undecided
from prefdata.core.method import method
from prefdata.core.ranking import borda as scores


@method(version=1, subject="pair", needs=("a_model", "b_model"), paper="Borda 1781")
def borda(votes: pl.DataFrame, *, of: list[str] | None = None, level: Literal["prompt", "model"] = "prompt") -> Labels:
    """The side with more Borda points; every annotator's ballot on a prompt counts once, however many pairs it compares.

    A ballot is all that one annotator said about one prompt. On it an item's points are its share of wins over the items it
    is compared with there, ties as half (for a full ranking of K: number below / (K - 1)); its score is the mean over
    the ballots it stands on. p_a = (1 + score of a - score of b) / 2; P(tie) is 0. Where annotators compare different
    items, scores also depend on who met whom; bradley_terry allows for that.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        level: what gets points: each response among those of its prompt, or each model over all prompts.
    """
    games, cast, prompt = Games.of_votes(votes, level)
    each = plays(games, cast, prompt)
    score = scores(each.ballot, each.first, each.second, each.points, games.items)
    p_a = (1 + games.differences(score)) / 2
    frame = label_frame(games.pair_id, p_a, p_a * 0, games.votes)
    detail = {"ballots": int(each.ballot.max(initial=-1)) + 1}
    listed = table("models", standings(games, score=score), by="score") if level == "model" else {}
    return Labels(frame, {**detail, **listed, **notes(*told(games, level), undecided(frame))})
