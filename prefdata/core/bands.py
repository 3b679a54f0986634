"""Curves with bands, as one SVG file that stands by itself: axes, a legend, light and dark by the reader's own colours."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7b5ea7", "#a65628", "#66a61e")
GREY = "#8a8f98"
_WIDE, _TALL = 420, 300
_LEFT, _TOP, _BOTTOM, _GAP, _LEGEND = 56, 46, 44, 34, 190
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1d2733}.head{font-weight:600;font-size:13px}.soft{fill:#5d6b7a}.paper{fill:#fff}"
    ".grid{stroke:#d9dfe6}.axis{stroke:#5d6b7a}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e9ef}.soft{fill:#9aa7b5}.paper{fill:#15191f}.grid{stroke:#2f3844}.axis{stroke:#9aa7b5}}"
)


@dataclass(frozen=True)
class Line:
    """One curve: y over x, with the ends of a band; `grey` for what the others are measured against."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    grey: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes; every panel names its lines in the same order."""

    title: str
    across: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel], title: str) -> str:
    """The file's content; panels stand side by side, the legend on the right is that of the first."""
    wide = len(panels) * (_LEFT + _WIDE) + (len(panels) - 1) * _GAP + _LEGEND + 20
    tall = _TOP + _TALL + _BOTTOM
    parts = [f'<rect class="paper" width="{wide}" height="{tall}"/><text class="head" x="{_LEFT}" y="20">{html.escape(title)}</text>']
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * (_LEFT + _WIDE + _GAP) + _LEFT},{_TOP})">{_panel(panel)}</g>')
    parts.append(_legend(panels[0].lines, wide - _LEGEND, _TOP + 8))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}" role="img">'
    return f"{head}<title>{html.escape(title)}</title><style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers inside [low, high], about so many."""
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _panel(panel: Panel) -> str:
    xs = [x for line in panel.lines for x in line.x]
    ys = [y for line in panel.lines for y in (*line.low, *line.high)]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    spare = (high - low or 1.0) * 0.04
    low, high = low - spare, high + spare

    def at(x: float, y: float) -> str:
        return f"{(x - left) / ((right - left) or 1) * _WIDE:.1f},{_TALL - (y - low) / (high - low) * _TALL:.1f}"

    parts = [f'<text class="soft" x="0" y="-8">{html.escape(panel.title)}</text>']
    for y in ticks(low, high):
        down = at(left, y).split(",")[1]
        parts.append(f'<line class="grid" x1="0" x2="{_WIDE}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text class="soft" x="-6" y="{float(down) + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in ticks(left, right, 5):
        parts.append(f'<text class="soft" x="{at(x, low).split(",")[0]}" y="{_TALL + 16}" text-anchor="middle">{x:.0%}</text>')
    for line, colour in zip(panel.lines, _colours(panel.lines), strict=True):
        around = [at(*p) for p in zip(line.x, line.high, strict=True)] + [at(*p) for p in zip(line.x, line.low, strict=True)][::-1]
        parts.append(f'<polygon points="{" ".join(around)}" fill="{colour}" fill-opacity="0.13"/>')
    for line, colour in zip(panel.lines, _colours(panel.lines), strict=True):
        points = " ".join(at(*p) for p in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts.append(f'<line class="axis" x1="0" x2="{_WIDE}" y1="{_TALL}" y2="{_TALL}"/>')
    parts.append(f'<text class="soft" x="{_WIDE / 2}" y="{_TALL + 34}" text-anchor="middle">{html.escape(panel.across)}</text>')
    return "".join(parts)


def _legend(lines: Sequence[Line], x: float, y: float) -> str:
    parts = []
    for number, (line, colour) in enumerate(zip(lines, _colours(lines), strict=True)):
        down = y + number * 20
        parts.append(f'<line x1="{x}" x2="{x + 18}" y1="{down}" y2="{down}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 24}" y="{down + 4}">{html.escape(line.name)}</text>')
    return "".join(parts)


def _colours(lines: Sequence[Line]) -> list[str]:
    given = iter(range(len(lines)))
    return [GREY if line.grey else COLOURS[next(given) % len(COLOURS)] for line in lines]
