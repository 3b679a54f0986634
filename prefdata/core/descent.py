"""Minimising a smooth function of many variables: L-BFGS with a weak Wolfe line search, for models fitted to votes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefdata.core.stats import Reals

Slope = Callable[[Reals], tuple[float, Reals]]
_MEMORY = 10
_ENOUGH, _FLATTER = 1e-4, 0.9
"""A step must gain this share of what the slope promises, and leave at most this share of the slope."""


class Lowest(NamedTuple):
    """Where a descent ended."""

    x: Reals
    value: float
    rounds: int
    settled: bool


def descend(slope: Slope, start: Reals, *, scale: Reals | None = None, tolerance: float = 1e-9, limit: int = 500) -> Lowest:
    """A local minimum of a function, downhill from `start` (Liu & Nocedal 1989; Nocedal & Wright 2006, algorithms 7.4, 7.5).

    Args:
        slope: gives value and gradient; the value must be finite at `start`.
        scale: a rough inverse of the second derivative per variable, above 0; default 1 for all.
        tolerance: relative fall of the value over one round, and of two in a row, at which the descent ends.
        limit: most rounds.
    """
    x = np.array(start, dtype=np.float64)
    value, gradient = slope(x)
    past: deque[tuple[Reals, Reals, float]] = deque(maxlen=_MEMORY)
    small, rounds = 0, 0
    while small < 2 and rounds < limit and gradient.any():
        way = -_turned(gradient, past, scale)
        if float(way @ gradient) >= 0:
            past.clear()
            way = -gradient if scale is None else -gradient * scale
        first = 1.0 if past or scale is not None else min(1.0, 1 / float(np.abs(gradient).sum()))
        there, low, new = _walk(slope, x, value, gradient, way, first)
        if not low < value:
            if not past:
                break  # not even straight downhill: this is the bottom to the last digit
            past.clear()
            small += 1
            continue
        move, change = there - x, new - gradient
        curved = float(move @ change)
        if curved > 1e-12 * float(change @ change):
            past.append((move, change, 1 / curved))
        small = small + 1 if value - low <= tolerance * max(1.0, abs(low)) else 0
        x, value, gradient = there, low, new
        rounds += 1
    return Lowest(x, value, rounds, rounds < limit)


def _turned(gradient: Reals, past: deque[tuple[Reals, Reals, float]], scale: Reals | None) -> Reals:
    """The inverse second derivative, as far as the last moves tell it, times the gradient."""
    turned = gradient.copy()
    shares = []
    for move, change, inverse in reversed(past):
        share = inverse * float(move @ turned)
        shares.append(share)
        turned -= share * change
    if scale is not None:
        turned *= scale
    if past:  # brought to the size that the last move found right
        _, change, inverse = past[-1]
        turned /= inverse * float(change @ (change if scale is None else scale * change))
    for (move, change, inverse), share in zip(past, reversed(shares), strict=True):
        turned += move * (share - inverse * float(change @ turned))
    return turned


def _walk(slope: Slope, x: Reals, value: float, gradient: Reals, way: Reals, step: float) -> tuple[Reals, float, Reals]:
    """A step along `way` that satisfies the weak Wolfe conditions, by doubling and halving an interval."""
    down = float(way @ gradient)
    low, high = 0.0, np.inf
    best = (x, value, gradient)
    for _ in range(40):
        there = x + step * way
        found, new = slope(there)
        if not (np.isfinite(found) and found <= value + _ENOUGH * step * down):
            high = step
        else:
            best = (there, found, new)
            if float(new @ way) >= _FLATTER * down:
                break
            low = step
        step = (low + high) / 2 if np.isfinite(high) else 2 * step
    return best
