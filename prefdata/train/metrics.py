"""The numbers worth watching, each a mean over pairs, so that no figure depends on how pairs were batched.

loss                             mean over pairs, weights applied
margin                           implicit reward margin: beta x (log-ratio chosen - log-ratio rejected), without a reference
                                 beta x (log-prob chosen - log-prob rejected), each summed or per token as the loss takes
                                 them; reward models: reward chosen - reward rejected
accuracy                         share of pairs with a margin above 0 among those that are decided; null where none is
tied                             share of pairs whose margin is 0 up to rounding (every pair, before the first step)
ranking_accuracy                 policies: share of pairs whose chosen response has the higher log-prob
chosen_logp, rejected_logp       policies: mean summed log-prob, nats
chosen_shift, rejected_shift     policies: how far these moved from the reference (training rows) or from the start
                                 (held-out rows); null where there is nothing to compare with
chosen_reward, rejected_reward   reward models
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prefdata.core.errors import PrefdataError
from prefdata.train.forward import PerPair
from prefdata.train.objective import Objective

TIE = 1e-4
"""Differences below this are rounding: float32 sums over a response vary by about as much with the batching."""


class Totals:
    """Per-pair values of one step or one pass over held-out rows, gathered on the CPU in double precision."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.columns: dict[str, list[torch.Tensor]] = {}
        self.tokens = 0

    def add(self, pairs: PerPair, start: torch.Tensor | None = None) -> None:
        """Take one micro-batch; `start` (B, 2) are log-probs to measure the shift from, in place of the reference."""
        self.tokens += pairs.tokens
        given = {name: value for name, value in vars(pairs).items() if isinstance(value, torch.Tensor)}
        if start is not None:
            given["start_chosen"], given["start_rejected"] = start[:, 0], start[:, 1]
        elif pairs.ref_chosen is not None and pairs.ref_rejected is not None:
            given["start_chosen"], given["start_rejected"] = pairs.ref_chosen, pairs.ref_rejected
        for name, value in given.items():
            self.columns.setdefault(name, []).append(value.detach())

    def bad_pairs(self) -> list[int]:
        """Which pairs, in the order they were added, have a loss that is not a number."""
        return [int(i) for i in (~torch.isfinite(torch.cat(self.columns["loss"]))).nonzero()[:, 0]]

    def means(self) -> dict[str, float | None]:
        """The figures of the module's docstring; null where one is not defined."""
        full = {name: torch.cat(parts).cpu().double() for name, parts in self.columns.items()}
        margin = self._side(full, "chosen") - self._side(full, "rejected")
        decided = margin.abs() > TIE
        out: dict[str, float | None] = {
            "loss": _mean(full["loss"]),
            "margin": _mean(margin * self.objective.beta),
            "accuracy": _mean((margin[decided] > 0).double()),
            "tied": _mean((~decided).double()),
        }
        if self.objective.kind == "reward":
            return {**out, "chosen_reward": _mean(full["chosen"]), "rejected_reward": _mean(full["rejected"])}
        out["ranking_accuracy"] = _mean((full["chosen"] > full["rejected"]).double())
        for side in ("chosen", "rejected"):
            out[f"{side}_logp"] = _mean(full[side])
            out[f"{side}_shift"] = _mean(full[side] - full[f"start_{side}"]) if f"start_{side}" in full else None
        return out

    def _side(self, full: Mapping[str, torch.Tensor], side: str) -> torch.Tensor:
        """What the objective compares of one side: reward, log-ratio or log-prob, summed or per token."""
        value = full[side] - full[f"ref_{side}"] if f"ref_{side}" in full else full[side]
        return value / full[f"n_{side}"] if self.objective.per_token else value


def _mean(values: torch.Tensor) -> float | None:
    """Null where there is nothing to average or the mean is no number; NaN is never stored."""
    mean = float(values.mean()) if len(values) else math.nan
    return mean if math.isfinite(mean) else None


class Log:
    """metrics.jsonl: one line per logged step, flushed at once."""

    def __init__(self, path: Path, keep: int) -> None:
        """Open the file and cut it to its first `keep` bytes: what came after the checkpoint happens again."""
        self.path = path
        try:
            self.stream = path.open("ab")
            self.stream.truncate(keep)
        except OSError as error:
            raise PrefdataError(f"{path} cannot be written ({error.strerror}); give --out a folder you may write to.") from None

    def write(self, line: Mapping[str, Any]) -> None:
        try:
            self.stream.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            self.stream.flush()
        except OSError as error:
            raise PrefdataError(f"{self.path} cannot be written ({error.strerror}); free space and pass --resume.") from None

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def close(self) -> None:
        self.stream.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """All lines; a last line that a crash cut short is left out."""
    lines = []
    for text in path.read_bytes().split(b"\n")[:-1]:
        lines.append(json.loads(text))
    return lines


def series(lines: Sequence[Mapping[str, Any]], split: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one number, where it is there."""
    points = [(int(line["step"]), float(line[name])) for line in lines if line["split"] == split and line.get(name) is not None]
    return [x for x, _ in points], [y for _, y in points]
