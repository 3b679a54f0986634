"""How far annotators agree, lean to a place or a length, and change over time; from counts, never from a raters x items table.

Intervals are bootstraps over units, drawn all at once: units with the same counts are exchangeable, so a resample is
one draw of how often each pattern of counts occurs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from prefdata.core.cast import codes, tally
from prefdata.core.errors import BadValue
from prefdata.core.stats import Ints, Level, Reals, cohen_kappas, krippendorff_alpha, wilson_bounds


class Interval(NamedTuple):
    """A statistic and the percentiles of its bootstrap; `defined` is the share of resamples in which it has a value."""

    value: float
    low: float
    high: float
    defined: float


def count_table(units: Ints, values: Ints, n_units: int, n_values: int) -> Reals:
    """(units, values): how often each unit was given each value."""
    return tally(units * n_values + values, n_units * n_values).reshape(n_units, n_values)


def raw_agreement(counts: Reals) -> float | None:
    """Share of pairs of votes on one unit that are equal; None where no unit has two."""
    given = counts.sum(axis=1)
    pairs = float((given * (given - 1)).sum())
    return float((counts * (counts - 1)).sum()) / pairs if pairs else None


def fleiss_kappa(counts: Reals) -> float | None:
    """Fleiss' kappa (1971) from a table units x values; None without a unit of two votes, or where all votes are equal.

    Units with fewer than two votes do not count. Units may have different numbers of votes: each unit's agreement weighs
    the same, each vote weighs the same in what chance explains.
    """
    found = float(_fleiss(counts[None])[0])
    return None if math.isnan(found) else found


def _fleiss(counts: Reals, times: Reals | None = None) -> Reals:
    """Per resample; `times` (resamples, units) says how often each unit occurs in it."""
    if times is None:
        counts, times = counts[0], np.ones((1, counts.shape[1]))
    given = counts.sum(axis=1)
    used = given >= 2
    counts, given, times = counts[used], given[used], times[:, used]
    agreed = ((counts * (counts - 1)).sum(axis=1)) / (given * (given - 1)) if len(given) else given
    many = times.sum(axis=1)
    totals = times @ counts
    whole = totals.sum(axis=1)
    out: Reals = np.full(len(times), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen, chance = (times @ agreed) / many, ((totals / whole[:, None]) ** 2).sum(axis=1)
        np.divide(seen - chance, 1 - chance, out=out, where=chance < 1)
    return out


def alpha_interval(
    counts: Reals,
    level: Level = "nominal",
    values: Reals | None = None,
    *,
    resamples: int = 1000,
    coverage: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Krippendorff's alpha with a percentile bootstrap over units; None where alpha has no value.

    Args:
        counts: units x values; units with fewer than two values do not count and are not drawn.
        level, values: as for `stats.krippendorff_alpha`.
        resamples: how many bootstrap samples.
        coverage: of the interval.
        seed: of the draws.
    """
    value = krippendorff_alpha(counts, level, values)
    if value is None:
        return None
    rows, many = patterns(counts[counts.sum(axis=1) >= 2])
    per_unit = rows / (rows.sum(axis=1) - 1)[:, None]
    width = rows.shape[1]
    together = np.einsum("pi,pj->pij", per_unit, rows) - np.einsum("pi,ij->pij", per_unit, np.eye(width))
    scale = np.arange(width, dtype=np.float64) if values is None else values

    def alphas(times: Reals) -> Reals:
        totals = times @ rows
        whole = totals.sum(axis=1)
        expected = np.einsum("ri,rj->rij", totals, totals) - np.einsum("ri,ij->rij", totals, np.eye(width))
        distance = _distance(totals, level, scale)
        seen = ((times @ together.reshape(len(rows), -1)).reshape(-1, width, width) * distance).sum(axis=(1, 2))
        chance = (expected * distance).sum(axis=(1, 2)) / (whole - 1)
        out: Reals = np.full(len(times), np.nan)
        np.divide(seen, chance, out=out, where=chance > 0)
        return 1 - out

    return _interval(value, alphas, many, resamples, coverage, seed)


def _distance(totals: Reals, level: Level, values: Reals) -> Reals:
    """(resamples or 1, values, values)."""
    if level == "nominal":
        return 1.0 - np.eye(totals.shape[1])[None]
    middle = np.cumsum(totals, axis=1) - totals / 2 if level == "ordinal" else values[None]
    out: Reals = (middle[:, :, None] - middle[:, None, :]) ** 2
    return out


def fleiss_interval(counts: Reals, *, resamples: int = 1000, coverage: float = 0.95, seed: int = 0) -> Interval | None:
    """Fleiss' kappa with a percentile bootstrap over units; None where it has no value."""
    value = fleiss_kappa(counts)
    if value is None:
        return None
    rows, many = patterns(counts[counts.sum(axis=1) >= 2])
    return _interval(value, lambda times: _fleiss(rows, times), many, resamples, coverage, seed)


def cohen_interval(
    table: Reals,
    weights: Literal["nominal", "linear", "quadratic"] = "nominal",
    *,
    resamples: int = 1000,
    coverage: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Cohen's kappa from a table of joint counts, with a percentile bootstrap over units; None where it has no value."""
    value = float(cohen_kappas(table[None].astype(np.float64), weights)[0])
    if math.isnan(value):
        return None
    width = len(table)
    cells = table.ravel().astype(np.float64)
    return _interval(value, lambda times: cohen_kappas(times.reshape(-1, width, width), weights), cells, resamples, coverage, seed)


def patterns(counts: Reals) -> tuple[Reals, Reals]:
    """The different rows of a table of whole numbers, and how often each occurs."""
    if not len(counts):
        return counts, np.zeros(0)
    base = int(counts.max()) + 1
    if base ** counts.shape[1] < 2**62:  # a row is a number in that base, and numbers sort faster than rows
        number = counts.astype(np.int64) @ base ** np.arange(counts.shape[1], dtype=np.int64)
        _, first, many = np.unique(number, return_index=True, return_counts=True)
        return counts[first], many.astype(np.float64)
    rows, many = np.unique(counts, axis=0, return_counts=True)
    return rows, many.astype(np.float64)


def _interval(
    value: float, statistic: Callable[[Reals], Reals], many: Reals, resamples: int, coverage: float, seed: int
) -> Interval | None:
    """Percentiles over draws of how often each pattern occurs."""
    if not 0 < coverage < 1 or resamples < 1:
        raise BadValue("coverage, resamples", (coverage, resamples), "a share between 0 and 1, and a whole number from 1")
    units = int(many.sum())
    times = np.random.default_rng(seed).multinomial(units, many / units, size=resamples).astype(np.float64)
    drawn = statistic(times)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    low, high = np.quantile(drawn, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Interval(value, float(low), float(high), len(drawn) / resamples)


def between(unit: Ints, who: pl.Series, said: Ints, n_values: int) -> pl.DataFrame:
    """The matrix of annotators: first, second, common units, same answers, share with interval, Cohen's kappa; each two once.

    Args:
        unit: per vote the unit, any order.
        who: per vote the annotator. Votes of one annotator on one unit are not held against each other.
        said: per vote the value, 0 .. n_values - 1.
    """
    number, names = codes(who)
    order = np.argsort(unit, kind="stable")
    unit, number, said = unit[order], number[order], said[order]
    first, second, one, two = [], [], [], []
    lag = 1
    while lag < len(unit) and (same := np.flatnonzero(unit[lag:] == unit[:-lag])).size:
        i, j = number[same], number[same + lag]
        ahead = i <= j
        first.append(np.where(ahead, i, j))
        second.append(np.where(ahead, j, i))
        one.append(np.where(ahead, said[same], said[same + lag]))
        two.append(np.where(ahead, said[same + lag], said[same]))
        lag += 1
    i, j, a, b = (np.concatenate(x) if x else np.zeros(0, dtype=np.int64) for x in (first, second, one, two))
    other = i != j
    met, at = np.unique((i * len(names) + j)[other], return_inverse=True)
    cell = (at * n_values + a[other]) * n_values + b[other]
    tables = tally(cell, len(met) * n_values * n_values).reshape(-1, n_values, n_values)
    common, same_answers = tables.sum(axis=(1, 2)), np.trace(tables, axis1=1, axis2=2)
    listed = shares(np.arange(len(met)), same_answers, common)
    return pl.DataFrame({"first": names.gather(met // max(len(names), 1)), "second": names.gather(met % max(len(names), 1))}).hstack(
        listed.select(
            pl.col("votes").alias("common"),
            pl.col("hits").alias("same"),
            "share",
            "low",
            "high",
            pl.Series("kappa", cohen_kappas(tables)).fill_nan(None),
        )
    )


def with_reference(who: pl.Series, said: Ints, truth: Ints, n_values: int) -> pl.DataFrame:
    """Per annotator: votes held against a reference (gold, or a judge), hits, share with interval, Cohen's kappa.

    Args:
        truth: per vote the reference's value, -1 where it has none.
    """
    number, names = codes(who)
    judged = truth >= 0
    cell = (number[judged] * n_values + said[judged]) * n_values + truth[judged]
    tables = tally(cell, len(names) * n_values * n_values).reshape(-1, n_values, n_values)
    listed = shares(np.arange(len(names)), np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2)))
    kappa = pl.Series("kappa", cohen_kappas(tables)).fill_nan(None)
    return listed.with_columns(names.alias("of"), kappa).rename({"of": "annotator"}).filter(pl.col("votes") > 0)


def shares(of: pl.Series | Ints, hits: Reals, votes: Reals) -> pl.DataFrame:
    """of, votes, hits, share and Wilson's 95 % interval, null without votes; one row an entry."""
    low, high = wilson_bounds(hits, votes)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {"votes": votes, "hits": hits, "share": hits / votes, "low": low, "high": high}
    return pl.DataFrame({"of": of, **columns}, nan_to_null=True).with_columns(pl.col("votes", "hits").cast(pl.Int64))
