"""Special functions on arrays, so that no more than numpy is needed: log-gamma, digamma, the Beta distribution."""

from __future__ import annotations

import math

import numpy as np

from prefdata.core.stats import Reals

_SHIFT = 10
"""The asymptotic series below are good to 1e-14 from here on; smaller arguments are moved up by the recurrence."""


def log_gamma(x: Reals) -> Reals:
    """log Gamma(x) for x > 0: Stirling's series at x + 10, brought back by Gamma(x + 1) = x Gamma(x)."""
    x = np.asarray(x, dtype=np.float64)
    below = sum((np.log(x + k) for k in range(_SHIFT)), start=np.zeros_like(x))
    z = x + _SHIFT
    i, i2 = 1 / z, 1 / z**2
    series = i * (1 / 12 - i2 * (1 / 360 - i2 * (1 / 1260 - i2 * (1 / 1680 - i2 / 1188))))
    out: Reals = (z - 0.5) * np.log(z) - z + 0.5 * math.log(2 * math.pi) + series - below
    return out


def digamma(x: Reals) -> Reals:
    """d log Gamma(x) / dx for x > 0, by the same route."""
    x = np.asarray(x, dtype=np.float64)
    below = sum((1 / (x + k) for k in range(_SHIFT)), start=np.zeros_like(x))
    z = x + _SHIFT
    i2 = 1 / z**2
    out: Reals = np.log(z) - 0.5 / z - i2 * (1 / 12 - i2 * (1 / 120 - i2 * (1 / 252 - i2 * (1 / 240 - i2 / 132)))) - below
    return out


def beta_above_half(a: Reals, b: Reals) -> Reals:
    """P(X > 1/2) for X ~ Beta(a, b): the regularised incomplete beta function I_1/2(b, a)."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    # The fraction converges fast for the tail only, so the smaller of P(X > 1/2) and P(X < 1/2) is the one computed.
    first, second = np.minimum(a, b), np.maximum(a, b)
    front = np.exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) - (a + b) * math.log(2))
    tail = front * _fraction(second, first) / second
    out: Reals = np.where(a <= b, tail, 1 - tail)
    return out


def _fraction(p: Reals, q: Reals) -> Reals:
    """The continued fraction of I_1/2(p, q) x p / front (Abramowitz and Stegun 26.5.8), by Lentz's method."""
    x, tiny = 0.5, 1e-300
    c, d = np.ones_like(p), 1 / (1 - (p + q) * x / (p + 1))
    value = d.copy()
    for m in range(1, 20_000):
        before = value
        for step in (m * (q - m) * x / ((p + 2 * m - 1) * (p + 2 * m)), -(p + m) * (p + q + m) * x / ((p + 2 * m) * (p + 2 * m + 1))):
            d = 1 + step * d
            d = 1 / np.where(np.abs(d) < tiny, tiny, d)
            c = 1 + step / c
            c = np.where(np.abs(c) < tiny, tiny, c)
            value = value * c * d
        if np.all(np.abs(value - before) <= 1e-15 * np.abs(value)):
            break
    return value
