"""Whether probabilities mean what they say: ECE, ACE, MCE over bins, and the temperature that would mend them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from prefdata.core.cast import tally
from prefdata.core.errors import BadValue
from prefdata.core.stats import Reals


class Calibration(NamedTuple):
    """Distances between what was said and what happened."""

    ece: float
    """Expected calibration error: mean over predictions of their bin's distance."""
    ace: float
    """Mean over non-empty bins of the distance."""
    mce: float
    """The largest distance of a bin."""
    bins: pl.DataFrame
    """Non-empty bins: low, high, count, mean probability, share of hits."""


def calibration(p: Reals, y: Reals, *, bins: int = 10, edges: Literal["uniform", "quantile"] = "uniform") -> Calibration | None:
    """Calibration of P(a better) against whether a was better; None without predictions.

    A value on an edge goes to the lower bin. Show pairs in either order, or in both: where the side that people prefer is
    always a, y is always 1 and nothing is learned about low probabilities.

    Args:
        p: probabilities; NaN entries are left out.
        y: 1, 0, or a share of people in between.
        bins: how many.
        edges: bins of equal width, or of equal numbers of predictions.
    """
    if bins < 1:
        raise BadValue("bins", bins, "a whole number from 1")
    known = np.isfinite(p) & np.isfinite(y)
    p, y = p[known], y[known]
    if not len(p):
        return None
    cuts = np.linspace(0, 1, bins + 1) if edges == "uniform" else np.quantile(p, np.linspace(0, 1, bins + 1))
    at = np.searchsorted(cuts[1:-1], p)
    count, said, happened = tally(at, bins), tally(at, bins, p), tally(at, bins, y)
    full = count > 0
    said, happened, count = said[full] / count[full], happened[full] / count[full], count[full]
    off = np.abs(said - happened)
    listed = {"low": cuts[:-1][full], "high": cuts[1:][full], "count": count.astype(np.int64), "said": said, "happened": happened}
    return Calibration(float((off * count).sum() / len(p)), float(off.mean()), float(off.max()), pl.DataFrame(listed))


def temperature(margin: Reals, y: Reals) -> float | None:
    """T > 0 for which sigma(margin / T) fits y best (least log-loss); None where no such T is finite and above 0.

    That is where margins are right always (T would be 0), or no better than the wrong way round (T would be infinite).
    """
    known = np.isfinite(margin) & np.isfinite(y)
    x, y = margin[known], y[known]
    if not float((x * (y - 0.5)).sum()) > 0 or not ((y != (x > 0)) & (x != 0)).any():
        return None
    low, high = 0.0, 1 / float(np.abs(x).max())

    def steeper(slope: float) -> bool:
        return float((x * (y - 0.5 * (1 + np.tanh(slope * x / 2)))).sum()) > 0

    while steeper(high):  # the log-loss is convex in the slope 1 / T, so its derivative has one zero
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if steeper(middle) else (low, middle)
    return 2 / (low + high)
