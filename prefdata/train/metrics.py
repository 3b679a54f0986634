"""The numbers worth watching, each a mean over pairs, so that no figure depends on how pairs were batched.

loss                             mean over pairs, weights applied
margin                           implicit reward margin: beta x (log-ratio chosen - log-ratio rejected), without a reference
                                 beta x (log-prob chosen - log-prob rejected), each summed or per token as the loss takes
                                 them; reward models: reward chosen - reward rejected
accuracy                         share of pairs with a margin above 0 among those that are decided; null where none is
tied                             share of pairs whose margin is 0 up to rounding (every pair, before the first step)
ordered                          lists: share of decided comparisons within lists that come out as ranked
ranking_accuracy                 policies: share of pairs whose chosen response has the higher log-prob
chosen_logp, rejected_logp       policies: mean summed log-prob, nats
chosen_shift, rejected_shift     policies: how far these moved from the reference (training rows) or from the start
                                 (held-out rows); null where there is nothing to compare with
chosen_reward, rejected_reward   reward models

Pairs that the column `tie` marks count for the loss only. Of a list the best response stands for the chosen one and the
worst for the rejected. Of unpaired responses the good ones stand for chosen, the bad for rejected; their accuracy is the
share whose log-ratio has the right sign, their margin beta x (mean log-ratio of good - mean log-ratio of bad).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prefdata.core.errors import PrefdataError
from prefdata.train.forward import TIE, PerRow
from prefdata.train.objective import Objective


class Totals:
    """Per-row values of one step or one pass over held-out rows, gathered on the CPU in double precision."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.columns: dict[str, list[torch.Tensor]] = {}
        self.tokens = 0

    def add(self, rows: PerRow, start: torch.Tensor | None = None) -> None:
        """Take one micro-batch.

        Args:
            rows: what the pass gave.
            start: (B, 2) log-probs of each row's first and last response to measure the shift from, in place of the reference.
        """
        self.tokens += rows.tokens
        given = {"loss": rows.loss, **rows.values}
        if start is not None:
            given |= {"start_chosen": start[:, 0], "start_rejected": start[:, 1]}
        else:
            names = {"ref_chosen": "start_chosen", "ref_rejected": "start_rejected", "ref": "start_chosen"}
            given |= {to: given[of] for of, to in names.items() if of in given}
        for name, value in given.items():
            self.columns.setdefault(name, []).append(value.detach())

    def bad_rows(self) -> list[int]:
        """Which rows, in the order they were added, have a loss that is not a number."""
        return [int(i) for i in (~torch.isfinite(torch.cat(self.columns["loss"]))).nonzero()[:, 0]]

    def means(self) -> dict[str, float | None]:
        """The figures of the module's docstring; null where one is not defined."""
        full = {name: torch.cat(parts).cpu().double() for name, parts in self.columns.items()}
        out = {"loss": _mean(full["loss"])}
        if self.objective.shape == "unpaired":
            return {**out, **self._unpaired(full)}
        won = full["tie"] == 0 if "tie" in full else torch.ones_like(full["loss"], dtype=torch.bool)
        if self.objective.kind == "reward":
            margin = full.get("margin", torch.zeros(0, dtype=torch.float64))
            rewards = {f"{side}_reward": _mean(full[side]) for side in ("chosen", "rejected") if side in full}
            return {**out, **_of_margin(margin, won[: len(margin)]), **rewards}
        margin = (self._side(full, "chosen") - self._side(full, "rejected")) * self.objective.beta
        out |= _of_margin(margin, won, decided=margin.abs() > TIE * self.objective.beta)
        if "decided" in full:
            decided = float(full["decided"].sum())
            out["ordered"] = float(full["right"].sum()) / decided if decided else None
        out["ranking_accuracy"] = _mean((full["chosen"] > full["rejected"])[won].double())
        for side in ("chosen", "rejected"):
            out[f"{side}_logp"] = _mean(full[side])
            out[f"{side}_shift"] = _mean(full[side] - full[f"start_{side}"]) if f"start_{side}" in full else None
        return out

    def _unpaired(self, full: Mapping[str, torch.Tensor]) -> dict[str, float | None]:
        """Good responses stand for chosen ones, bad for rejected; they are not compared pair by pair."""
        good, ratio = full["good"] > 0, full["logp"] - full["ref"]
        decided = ratio.abs() > TIE
        means = [_mean(ratio[side]) for side in (good, ~good)]
        found: dict[str, float | None] = {
            "margin": None if means[0] is None or means[1] is None else self.objective.beta * (means[0] - means[1]),
            "accuracy": _mean(((ratio > 0) == good)[decided].double()),
            "tied": _mean((~decided).double()),
        }
        for name, side in (("chosen", good), ("rejected", ~good)):
            found[f"{name}_logp"] = _mean(full["logp"][side])
            found[f"{name}_shift"] = _mean((full["logp"] - full["start_chosen"])[side])
        return found

    def _side(self, full: Mapping[str, torch.Tensor], side: str) -> torch.Tensor:
        """What the objective compares of one side: log-ratio or log-prob, summed or per token."""
        value = full[side] - full[f"ref_{side}"] if f"ref_{side}" in full else full[side]
        return value / full[f"n_{side}"] if self.objective.per_token else value


def _of_margin(margin: torch.Tensor, won: torch.Tensor, decided: torch.Tensor | None = None) -> dict[str, float | None]:
    decided = margin.abs() > TIE if decided is None else decided
    return {
        "margin": _mean(margin[won]),
        "accuracy": _mean((margin > 0)[decided & won].double()),
        "tied": _mean((~decided)[won].double()),
    }


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
