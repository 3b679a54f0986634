"""Agreement, intervals, rank correlation and stable draws; strengths from comparisons are in `strengths.py`.

Everything works on counts in numpy arrays; nothing loops over rows.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Reals = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Level = Literal["nominal", "ordinal", "interval"]


def wilson(hits: float, of: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Wilson's interval for a share (95 % by default); None without observations."""
    if of == 0:
        return None
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def wilson_bounds(hits: Reals, of: Reals, z: float = 1.959963984540054) -> tuple[Reals, Reals]:
    """Wilson's interval for many shares at once; NaN without observations."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = hits / of
        middle = (share + z * z / (2 * of)) / (1 + z * z / of)
        reach = z * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return np.maximum(0.0, middle - reach), np.minimum(1.0, middle + reach)


def krippendorff_alpha(counts: Reals, level: Level = "nominal", values: Reals | None = None) -> float | None:
    """Krippendorff's alpha from a table units x values of how often each value was given to each unit.

    Units with fewer than two values do not count. None where nothing can disagree: no such unit, or one value only.

    Args:
        counts: columns in the order of the values.
        level: the distance between values: same or not, by ranks, or squared difference.
        values: the numbers behind the columns, for the level interval; default 0, 1, 2, ...
    """
    counts = counts[counts.sum(axis=1) >= 2].astype(float)
    if not counts.size:
        return None
    given = counts.sum(axis=1)
    totals = counts.sum(axis=0)
    whole = totals.sum()
    observed = (counts / (given - 1)[:, None]).T @ counts - np.diag((counts / (given - 1)[:, None]).sum(axis=0))
    expected = (np.outer(totals, totals) - np.diag(totals)) / (whole - 1)
    distance = _distances(totals, level, np.arange(len(totals), dtype=float) if values is None else values)
    by_chance = float((expected * distance).sum())
    return 1 - float((observed * distance).sum()) / by_chance if by_chance else None


def _distances(totals: Reals, level: Level, values: Reals) -> Reals:
    if level == "nominal":
        return 1.0 - np.eye(len(totals))
    middle = np.cumsum(totals) - totals / 2 if level == "ordinal" else values
    distances: Reals = (middle[:, None] - middle[None, :]) ** 2
    return distances


def cohen_kappa(table: npt.NDArray[Any], weights: Literal["nominal", "linear", "quadratic"] = "nominal") -> float | None:
    """Cohen's kappa of two raters from their table of joint counts; None where chance alone explains everything.

    Args:
        table: (values, values).
        weights: how bad a disagreement is: all alike, by the distance of the values' places, or by its square (Cohen 1968).
    """
    found = float(cohen_kappas(table[None].astype(np.float64), weights)[0])
    return None if math.isnan(found) else found


def cohen_kappas(tables: Reals, weights: Literal["nominal", "linear", "quadratic"] = "nominal") -> Reals:
    """The same for many tables (n, values, values) at once; NaN for None."""
    whole = tables.sum(axis=(1, 2))
    place = np.arange(tables.shape[1], dtype=np.float64)
    apart = np.abs(place[:, None] - place)
    distance = {"nominal": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]
    seen = np.einsum("nij,ij->n", tables, distance) * whole
    chance = np.einsum("ni,nj,ij->n", tables.sum(axis=2), tables.sum(axis=1), distance)
    out: Reals = np.full(len(tables), np.nan)
    np.divide(seen, chance, out=out, where=chance > 0)
    return 1 - out


def spearman(x: Reals, y: Reals) -> float | None:
    """Spearman's rank correlation; equal values share their mean rank. None where one side is constant."""
    ranked = [pl.Series(v).rank("average").to_numpy() for v in (x, y)]
    if len(x) < 2 or any(r.min() == r.max() for r in ranked):
        return None
    return float(np.corrcoef(ranked[0], ranked[1])[0, 1])


def draws(ids: pl.Series, seed: int) -> Reals:
    """A number in [0, 1) per id (UUID text) that depends on the id and the seed only, wherever the id stands."""
    low = ids.str.slice(19, 4) + ids.str.slice(24, 12)
    bits = low.str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    with np.errstate(over="ignore"):
        bits = _mixed(bits ^ _mixed(np.array([seed % 2**64], dtype=np.uint64)))
    drawn: Reals = (bits >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return drawn


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
