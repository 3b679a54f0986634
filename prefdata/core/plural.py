"""What methods with groups or tastes share: votes as opinions on rewards, labels that weigh groups, and the worst-off group's report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from prefdata.core.cast import Cast
from prefdata.core.errors import BadValue
from prefdata.core.games import Of, sides
from prefdata.core.labels import Labels, label_frame, notes, table
from prefdata.core.stats import Bools, Ints, Reals
from prefdata.core.tastes import Design, Features, Items, Opinions, log_likelihood, sigmoid

Welfare = Literal["maxmin", "mean"]
_HALF = np.array([1.0, 0.0, 0.5])


@dataclass(frozen=True)
class Ground:
    """Votes and the rewards they may speak of.

    Attributes:
        cast: every vote.
        usable: per pair whether its two sides are different and known (or all features are).
        design: over the usable pairs.
        opinions: the votes on usable pairs, those pairs numbered anew.
        names: of the design's parameters, items or features.
    """

    cast: Cast
    usable: Bools
    design: Design
    opinions: Opinions
    names: pl.Series

    @classmethod
    def of(cls, votes: pl.DataFrame, level: Of, features: Sequence[str] | None) -> Ground:
        cast = Cast.of(votes)
        rows = votes.unique("id", keep="first", maintain_order=True)
        if features:
            x = difference_of(rows, features)
            usable: Bools = np.asarray(np.isfinite(x).all(axis=1))
            spread = x[usable].std(axis=0) if usable.any() else np.ones(x.shape[1])
            design: Design = Features(x[usable] / np.where(spread > 0, spread, 1.0))
            names = pl.Series("feature", list(features))
        else:
            first, second, names = sides(rows, level)
            usable = np.asarray((first != second) & (first >= 0) & (second >= 0))
            design = Items(first[usable], second[usable], len(names))
        number = np.cumsum(usable) - 1
        kept = usable[cast.pair] if cast.size else np.zeros(0, dtype=bool)
        opinions = Opinions(number[cast.pair[kept]], cast.who[kept], _HALF[cast.said[kept]], int(usable.sum()), len(cast.annotators))
        return cls(cast, usable, design, opinions, names)

    def labels(self, p: Reals, share: Reals, welfare: Welfare) -> pl.DataFrame:
        """From P(a) in each group (usable pairs, groups) and the groups' shares of the annotators."""
        if welfare == "mean":
            p_a = p @ share
            sure = np.maximum(p_a, 1 - p_a)
        else:  # the middle of the range is off by least where it is off most
            p_a = (p.min(axis=1) + p.max(axis=1)) / 2
            sure = np.where(p_a >= 0.5, p.min(axis=1), 1 - p.max(axis=1))
        whole, confidence = np.full((2, len(self.usable)), np.nan)
        whole[self.usable], confidence[self.usable] = p_a, sure
        votes = self.cast.counts.sum(axis=1)
        return label_frame(self.cast.pairs, whole, np.where(np.isnan(whole), np.nan, 0.0), votes, confidence)


def difference_of(rows: pl.DataFrame, features: Sequence[str]) -> Reals:
    """(rows, features): a less b, NaN where one is unknown; a minus before a name turns it round."""
    columns = []
    for name in features:
        bare = name.removeprefix("-")
        both = [rows[f"{side}_{bare}"] for side in ("a", "b")]
        for values in both:
            if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
                raise BadValue(
                    "features", name, "numbers of responses, such as chars, score or a signal", f"{values.name} is {values.dtype}."
                )
        a, b = (values.cast(pl.Float64).fill_null(np.nan).to_numpy() for values in both)
        columns.append(b - a if name.startswith("-") else a - b)
    return np.stack(columns, axis=1) if columns else np.zeros((rows.height, 0))


def group_rows(ground: Ground, z: Reals, group: Ints, share: Reals, weights: Reals) -> tuple[dict[str, Any], int]:
    """A row per group, and which is worst off: whose sided votes are foreseen least often.

    Args:
        z: per vote the difference of rewards that is held against it.
        group: per annotator the group.
        share: of the annotators, per group.
        weights: (parameters, groups): the rewards, whose best and worst parameters are named.
    """
    votes = ground.opinions
    of, many = group.take(votes.who), len(share)
    sided = votes.said != 0.5
    right = sided & ((z > 0) == (votes.said == 1)) & (z != 0)
    counted, hits = np.bincount(of, sided, many), np.bincount(of, right, many)
    every = np.bincount(of, minlength=many)
    loss = np.bincount(of, -log_likelihood(z, votes.said), many)
    accuracy = np.divide(hits, counted, out=np.full(many, np.nan), where=counted > 0)
    heard = votes.per_annotator(np.ones(len(votes.said))) > 0
    rows = {
        "group": np.arange(many),
        "share": share,
        "annotators": np.bincount(group[heard], minlength=many),
        "votes": every,
        "accuracy": accuracy,
        "log_loss": np.divide(loss, every, out=np.full(many, np.nan), where=every > 0),
    }
    if len(ground.names):
        rows["likes"], rows["dislikes"] = (ground.names.gather(weights.argmax(axis=0)), ground.names.gather(weights.argmin(axis=0)))
    worst = int(np.nanargmin(accuracy)) if np.isfinite(accuracy).any() else 0
    return rows, worst


def held_out(ground: Ground, share: float, seed: int, losses: Callable[[Opinions, Opinions], tuple[float, float]]) -> dict[str, Any]:
    """Log-loss of votes that were hidden from the fit: with groups or tastes, and with one reward for all.

    Args:
        share: of the votes that are hidden; 0: none, and nothing is reported.
        losses: fits on the first opinions and gives both losses, in nats per vote, on the second.
    """
    if not 0 <= share < 1:
        raise BadValue("held_out", share, "a share from 0 to below 1")
    votes = ground.opinions
    hidden = np.random.default_rng(seed).random(len(votes.said)) < share
    if not hidden.any() or hidden.all():
        return {}
    with_groups, with_one = losses(votes.only(~hidden), votes.only(hidden))
    report = {"votes": int(hidden.sum()), "log_loss": round(with_groups, 6), "log_loss_of_one_reward": round(with_one, 6)}
    return {"held_out": report, "held_out_gain": round(with_one - with_groups, 6)}


def finish(
    ground: Ground,
    p: Reals,
    share: Reals,
    welfare: Welfare,
    rows: dict[str, Any],
    worst: int,
    annotators: dict[str, Any],
    more: dict[str, Any],
) -> Labels:
    """Labels and the step's report."""
    detail = {**table("groups", rows, by="share"), "worst_group": worst, **table("annotators", annotators), **more}
    unusable = int((~ground.usable).sum())
    one = more.get("held_out_gain")
    told = notes(
        f"{unusable:,} voted pairs have no label: a side without a name, twice the same, or without a feature." if unusable else None,
        "on hidden votes the groups foresee no better than one reward for all." if one is not None and one <= 0 else None,
    )
    return Labels(ground.labels(p, share, welfare), {**detail, **told})


def chance(ground: Ground, rewards: Reals) -> Reals:
    """P(a) on the usable pairs under each reward."""
    return sigmoid(ground.design.differences(rewards))
