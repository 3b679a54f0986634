"""Small plots as inline SVG: no plotting package, no script, light and dark by the page's own colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 460, 220
_LEFT, _BOTTOM, _TOP = 44, 30, 12
COLOURS = ("var(--one)", "var(--two)", "var(--three)")


def bars(values: Mapping[str, float], unit: str = "") -> str:
    """Horizontal bars, one a name, the number at the end."""
    if not values:
        return "<p class=none>nothing to show</p>"
    top, row, label = max(max(values.values()), 1e-12), 24, 170
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y, long = number * row, (WIDTH - label - 70) * value / top
        parts.append(f'<text x="{label - 6}" y="{y + 16}" text-anchor="end">{html.escape(name[:26])}</text>')
        parts.append(f'<rect x="{label}" y="{y + 4}" width="{long:.1f}" height="{row - 8}" rx="2" fill="{COLOURS[0]}"/>')
        parts.append(f'<text x="{label + long + 5:.1f}" y="{y + 16}">{_number(value)}{html.escape(unit)}</text>')
    return _svg("".join(parts), row * len(values) + 4)


def histogram(series: Mapping[str, Sequence[float]], edges: Sequence[float], unit: str = "") -> str:
    """Counts per bin, side by side for up to three series; `edges` has one more entry than each series."""
    top = max((max(counts, default=0) for counts in series.values()), default=0) or 1
    bins = len(edges) - 1
    if bins < 1:
        return "<p class=none>nothing to show</p>"
    across, down = (WIDTH - _LEFT - 10) / bins, HEIGHT - _BOTTOM - _TOP
    width = across / max(1, len(series))
    parts = []
    for number, (_, counts) in enumerate(series.items()):
        for place, count in enumerate(counts):
            tall = down * count / top
            x, y = _LEFT + place * across + number * width, HEIGHT - _BOTTOM - tall
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 1, 0.5):.1f}" height="{tall:.1f}" fill="{COLOURS[number % 3]}"/>'
            )
    return _svg(_frame(0, top, edges[0], edges[-1], unit) + "".join(parts) + _legend(list(series)), HEIGHT)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], unit: str = "") -> str:
    """One polyline a series over a shared x axis."""
    points = [p for line in series.values() for p in line]
    if not points:
        return "<p class=none>nothing to show</p>"
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high, left, right = min(ys), max(ys), min(xs), max(xs)
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    parts = []
    for number, line in enumerate(series.values()):
        path = " ".join(
            f"{_LEFT + (x - left) / wide * (WIDTH - _LEFT - 10):.1f},{HEIGHT - _BOTTOM - (y - low) / tall * (HEIGHT - _BOTTOM - _TOP):.1f}"
            for x, y in line
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[number % 3]}" stroke-width="2"/>')
    return _svg(_frame(low, high, left, right, unit) + "".join(parts) + _legend(list(series)), HEIGHT)


def _frame(low: float, high: float, left: float, right: float, unit: str) -> str:
    base = HEIGHT - _BOTTOM
    return (
        f'<line x1="{_LEFT}" y1="{base}" x2="{WIDTH - 10}" y2="{base}" class="axis"/>'
        f'<text x="{_LEFT - 5}" y="{base}" text-anchor="end">{_number(low)}</text>'
        f'<text x="{_LEFT - 5}" y="{_TOP + 8}" text-anchor="end">{_number(high)}</text>'
        f'<text x="{_LEFT}" y="{HEIGHT - 12}">{_number(left)}</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 12}" text-anchor="end">{_number(right)} {html.escape(unit)}</text>'
    )


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    parts = []
    for number, name in enumerate(names):
        x = _LEFT + 110 + number * 95
        parts.append(f'<rect x="{x}" y="{HEIGHT - 21}" width="10" height="10" fill="{COLOURS[number % 3]}"/>')
        parts.append(f'<text x="{x + 14}" y="{HEIGHT - 12}">{html.escape(name)}</text>')
    return "".join(parts)


def _svg(inside: str, height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">{inside}</svg>'


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3g}"
