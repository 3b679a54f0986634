"""The picture of a run: loss, accuracy, and where the log-probs (or rewards) went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.train.metrics import series

_INK, _GRID = "#2b2f36", "#e4e7eb"
_BLUE, _ORANGE = "#2f6fb0", "#d5702a"
"""Blue for chosen and training, orange for rejected and held-out: apart for colour-blind eyes too."""


def draw(lines: Sequence[Mapping[str, Any]], path: Path, *, title: str, policy: bool, held_out: str | None) -> None:
    """Write training.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), dpi=130)
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.05, right=0.99, top=0.82, bottom=0.13, wspace=0.2)
    figure.suptitle(title, color=_INK, fontsize=13, fontweight="bold", x=0.012, ha="left")
    _two_splits(left, lines, "loss", held_out)
    _style(left, "loss", "mean over pairs")
    _two_splits(middle, lines, "accuracy", held_out)
    x, y = series(lines, held_out or "", "ranking_accuracy")
    if x:
        middle.plot(x, y, color=_INK, linewidth=1.2, linestyle="--", alpha=0.6, label="held out, chosen more likely than rejected")
    middle.set_ylim(-0.02, 1.02)
    middle.axhline(0.5, color=_INK, linewidth=0.8, linestyle=":")
    _style(middle, "accuracy", "share of pairs with margin > 0")
    names = ("chosen_shift", "rejected_shift") if policy else ("chosen_reward", "rejected_reward")
    _two_sides(right, lines, names, held_out)
    right.axhline(0, color=_INK, linewidth=0.8, linestyle=":")
    _style(right, "log-prob, moved since the start" if policy else "reward", "nats per response" if policy else "mean over pairs")
    figure.savefig(path, facecolor="white")


def _two_splits(axes: Any, lines: Sequence[Mapping[str, Any]], name: str, held_out: str | None) -> None:
    x, y = series(lines, "train", name)
    if len(x) > 20:
        axes.plot(x, y, color=_BLUE, linewidth=0.8, alpha=0.25)
        axes.plot(x, _smooth(y), color=_BLUE, linewidth=1.8, label="training (smoothed)")
    elif x:
        axes.plot(x, y, color=_BLUE, linewidth=1.8, marker="o", markersize=3, label="training")
    x, y = series(lines, held_out or "", name)
    if x:
        axes.plot(x, y, color=_ORANGE, linewidth=1.8, marker="o", markersize=4, label=f"held out ({held_out})")


def _two_sides(axes: Any, lines: Sequence[Mapping[str, Any]], names: tuple[str, str], held_out: str | None) -> None:
    for name, color in zip(names, (_BLUE, _ORANGE), strict=True):
        side = name.partition("_")[0]
        x, y = series(lines, "train", name)
        if x:
            axes.plot(x, _smooth(y), color=color, linewidth=1.2, alpha=0.45, label=f"{side}, training")
        x, y = series(lines, held_out or "", name)
        if x:
            axes.plot(x, y, color=color, linewidth=1.8, marker="o", markersize=4, label=f"{side}, held out")


def _smooth(values: Sequence[float]) -> list[float]:
    """Running mean over about a twentieth of the run."""
    half = max(0, len(values) // 40)
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i - half) : i + half + 1])]


def _style(axes: Any, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=11)
    axes.set_xlabel("step", color=_INK)
    axes.set_ylabel(unit, color=_INK, fontsize=9)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
    else:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", va="center", color=_INK, alpha=0.5)
