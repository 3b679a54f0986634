"""Aggregate: able annotators and hard pairs."""

from __future__ import annotations

import numpy as np
import polars as pl

from prefdata.core.cast import Cast
from prefdata.core.glad import glad as fit
from prefdata.core.labels import Labels, label_frame, names, notes, table, undecided
from prefdata.core.method import method


@method(version=1, subject="pair", paper="GLAD: Whitehill et al. 2009")
def glad(
    votes: pl.DataFrame,
    *,
    of: list[str] | None = None,
    gold: list[str] | None = None,
    tolerance: float = 1e-9,
    limit: int = 500,
) -> Labels:
    """Posterior of a, b and tie where P(right) = sigma(ability of the annotator x ease of the pair).

    ability ~ N(1, 1) and log ease ~ N(1, 1), as in the paper; wrong answers are shared alike by the other outcomes that somebody
    names; "both bad" is a tie. margin = |P(a) - P(b)|, confidence = P of the likeliest outcome. The step's report lists abilities:
    about 0 is guessing, below 0 misleads.

    Args:
        of: annotator ids or kinds whose votes count, or, with a minus before them, do not; null: everyone's.
        gold: annotator ids or kinds whose votes are the truth: they fix the pairs they speak of and teach about the others.
        tolerance: relative gain at which the fit ends.
        limit: most rounds.
    """
    cast, known = Cast.of(votes).without(gold)
    model = fit(cast, known=known, tolerance=tolerance, limit=limit)
    frame = label_frame(cast.pairs, model.p[:, 0], model.p[:, 2], cast.counts.sum(axis=1))
    rows = {"annotator": cast.annotators, "kind": cast.kinds, "votes": cast.votes_of, "ability": model.ability}
    listed = table("annotators", rows)
    ease = {"ease_quartiles": np.quantile(model.ease, [0.25, 0.5, 0.75]).round(4).tolist()} if len(model.ease) else {}
    misleading = cast.annotators.filter(pl.Series((model.ability < 0) & (cast.votes_of > 0)))
    said = notes(
        f"more often wrong than right, so that their votes count the other way: {names(misleading)}." if len(misleading) else None,
        None if model.settled else f"not settled after {limit:,} rounds; give a larger limit or tolerance.",
        undecided(frame),
    )
    return Labels(frame, {**listed, **ease, "log_likelihood": round(model.fit, 6), "rounds": model.rounds, **said})
