"""What annotators and judges do beside judging: lean to a place or a length, go at a pace, drift over time."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from prefdata.core.agreement import shares
from prefdata.core.cast import codes, tally
from prefdata.core.errors import BadValue
from prefdata.core.stats import Reals


def position_bias(votes: pl.DataFrame) -> pl.DataFrame:
    """Per annotator: sided votes whose order is known, how many chose the side shown first, share with Wilson's interval.

    No bias is a half, as far as orders are drawn by chance. Ties and votes on both orders at once say nothing.

    Args:
        votes: annotator_id, choice (a, b, ...), shown (ab, ba, ...).
    """
    sided = votes.filter(pl.col("choice").is_in(["a", "b"]) & pl.col("shown").is_in(["ab", "ba"]))
    return _leaning(sided["annotator_id"], (sided["choice"] == sided["shown"].str.head(1)).cast(pl.Float64).to_numpy())


def length_bias(votes: pl.DataFrame) -> pl.DataFrame:
    """Per annotator: sided votes on responses of different length, how many chose the longer, share with Wilson's interval.

    The longer one may well be better: compare with gold, or with annotators of the same pairs.

    Args:
        votes: annotator_id, choice, a_chars, b_chars.
    """
    sided = votes.filter(pl.col("choice").is_in(["a", "b"]) & (pl.col("a_chars") != pl.col("b_chars")))
    longer = (sided["a_chars"] > sided["b_chars"]) == (sided["choice"] == "a")
    return _leaning(sided["annotator_id"], longer.cast(pl.Float64).to_numpy())


def _leaning(who: pl.Series, hit: Reals) -> pl.DataFrame:
    number, names = codes(who)
    found = shares(names, tally(number, len(names), hit), tally(number, len(names)))
    return found.rename({"of": "annotator"}).sort("votes", "annotator", descending=[True, False])


def flips(votes: pl.DataFrame) -> pl.DataFrame:
    """Per annotator: pairs judged in both orders, how many kept their choice, share with interval, and for the rest which place won.

    Args:
        votes: id (of the pair), annotator_id, choice, shown; of several votes in one order the last counts.
    """
    kept = votes.filter(pl.col("shown").is_in(["ab", "ba"])).unique(["id", "annotator_id", "shown"], keep="last", maintain_order=True)
    both = kept.filter(pl.col("shown") == "ab").join(kept.filter(pl.col("shown") == "ba"), on=["id", "annotator_id"], suffix="_ba")
    counted = both.group_by("annotator_id", maintain_order=True).agg(
        pl.len().alias("n"),
        (pl.col("choice") == pl.col("choice_ba")).sum().alias("same"),
        ((pl.col("choice") == "a") & (pl.col("choice_ba") == "b")).sum().alias("always_first"),
        ((pl.col("choice") == "b") & (pl.col("choice_ba") == "a")).sum().alias("always_second"),
    )
    found = shares(counted["annotator_id"], *(counted[name].cast(pl.Float64).to_numpy() for name in ("same", "n")))
    return found.rename({"of": "annotator", "votes": "pairs", "hits": "same"}).hstack(counted.select("always_first", "always_second"))


def pace(votes: pl.DataFrame) -> pl.DataFrame:
    """Per annotator: votes with a known time, and the seconds' 10th, 50th and 90th percentile.

    Args:
        votes: annotator_id, seconds (null where unknown).
    """
    timed = votes.filter(pl.col("seconds").is_not_null() & pl.col("seconds").is_finite())
    quantiles = [pl.col("seconds").quantile(q, "linear").alias(name) for name, q in (("p10", 0.1), ("median", 0.5), ("p90", 0.9))]
    found = timed.group_by("annotator_id").agg(pl.len().alias("votes"), *quantiles)
    return found.rename({"annotator_id": "annotator"}).sort("votes", "annotator", descending=[True, False])


def drift(votes: pl.DataFrame, windows: int = 10) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Whether hits (agreement, or a choice of the first place) become more or less frequent in the course of an annotator's votes.

    Gives two tables: per annotator votes, share in the first and in the second half, z and two-sided p of the
    Cochran-Armitage trend over the votes' order (null where all hit or none, or before two votes); and per annotator
    and window, of equal numbers of votes, the share with Wilson's interval.

    Args:
        votes: annotator_id, created (what orders the votes), hit (bool; null votes are left out).
        windows: at most so many windows per annotator.
    """
    if windows < 1:
        raise BadValue("windows", windows, "a whole number from 1")
    ordered = votes.filter(pl.col("hit").is_not_null() & pl.col("created").is_not_null()).sort(
        "annotator_id", "created", maintain_order=True
    )
    number, names = codes(ordered["annotator_id"])
    hit = ordered["hit"].cast(pl.Float64).to_numpy()
    many = tally(number, len(names))
    place = np.arange(len(number)) - (np.cumsum(many) - many)[number]
    late = 2 * place >= many[number]
    z = _trend(number, hit, place, many)
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [tally(number, len(names), hit * part) / tally(number, len(names), part.astype(np.float64)) for part in (~late, late)]
    p = np.array([math.erfc(abs(value) / math.sqrt(2)) if math.isfinite(value) else math.nan for value in z])
    columns = {"votes": many.astype(np.int64), "first_half": halves[0], "second_half": halves[1], "z": z, "p": p}
    whole = pl.DataFrame({"annotator": names, **columns}, nan_to_null=True)
    window = np.minimum(place * windows // np.maximum(many[number], 1), windows - 1).astype(np.int64)
    cell = number * windows + window
    listed = shares(np.arange(len(names) * windows), tally(cell, len(names) * windows, hit), tally(cell, len(names) * windows))
    per_window = listed.with_columns(
        pl.Series("annotator", names).gather(np.arange(len(names)).repeat(windows)), (pl.col("of") % windows).alias("window")
    )
    return whole, per_window.filter(pl.col("votes") > 0).select("annotator", "window", "votes", "hits", "share", "low", "high")


def _trend(number: np.ndarray, hit: Reals, place: Reals, many: Reals) -> Reals:
    """z of the trend of hits over places 0, 1, ... within each annotator; NaN without spread."""
    mean, middle = tally(number, len(many), hit) / many, (many - 1) / 2
    lean = tally(number, len(many), (hit - mean[number]) * (place - middle[number]))
    spread = np.sqrt(mean * (1 - mean) * many * (many**2 - 1) / 12)
    out: Reals = np.full(len(many), np.nan)
    np.divide(lean, spread, out=out, where=spread > 0)
    return out
