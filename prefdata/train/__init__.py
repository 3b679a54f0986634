"""The trainer: policies and reward models from pairs, in plain torch.

    train(objective, export, model, out, config)   one run; objectives are the files of `losses/` and `heads/`

Importing this package imports no torch; the first call does.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from prefdata.core.errors import NeedsExtra
from prefdata.core.export_io import Export
from prefdata.train.config import Event, TrainConfig, TrainResult

__all__ = ["Event", "TrainConfig", "TrainResult", "train"]


def train(
    objective: str,
    export: Export | str | Path,
    model: str | Path,
    out: str | Path,
    config: TrainConfig | None = None,
    progress: Callable[[Event], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train `model` on `export` and write a Hugging Face folder to `out`.

    Args:
        objective: a method of the shelf `losses` (dpo, simpo, ...), or `reward` for a scalar reward model.
        export: what `load_export` gave, or the path to it.
        model: folder in Hugging Face format, or a Hub name.
        out: a new or empty folder; with `config.resume` the folder of a stopped run.
        config: everything else; `TrainConfig()` where nothing is given.
        progress: called with each `Event` as it happens.
        stop: asked after every step; True ends the run with a checkpoint and `Stopped`.
    """
    if not all(find_spec(package) for package in ("torch", "transformers", "matplotlib")):
        raise NeedsExtra("training", "train")
    from prefdata.train.loop import run

    return run(objective, export, model, Path(out), config or TrainConfig(), progress or _silent, stop or _never)


def _silent(event: Event) -> None:
    """The progress of a caller who does not want any."""


def _never() -> bool:
    return False
