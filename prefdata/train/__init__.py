"""The trainer: policies and reward models from pairs, in plain torch.

    train(objective, export, model, out, config)   one run; objectives are the files of `losses/` and `heads/`
    merge(name, models, out, params)               arithmetic on trained weights; the files of `merges/`

Importing this package imports no torch; the first call does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prefdata.core.errors import NeedsExtra
from prefdata.core.export_io import Export
from prefdata.core.store import Store
from prefdata.core.trainings import record
from prefdata.train.config import Event, MergeResult, TrainConfig, TrainResult

__all__ = ["Event", "MergeResult", "TrainConfig", "TrainResult", "merge", "train"]


def train(
    objective: str,
    export: Export | str | Path,
    model: str | Path,
    out: str | Path,
    config: TrainConfig | None = None,
    progress: Callable[[Event], None] | None = None,
    stop: Callable[[], bool] | None = None,
    store: Store | str | Path | None = None,
) -> TrainResult:
    """Train `model` on `export` and write a Hugging Face folder to `out`.

    Args:
        objective: a method of the shelf `losses` (dpo, simpo, ...), a sum of some ("dpo + 0.2*sft"), or a reward head:
            `reward` for the usual scalar one, or a method of the shelf `heads`.
        export: what `load_export` gave, or the path to it.
        model: folder in Hugging Face format, or a Hub name.
        out: a new or empty folder; with `config.resume` the folder of a stopped run.
        config: everything else; `TrainConfig()` where nothing is given.
        progress: called with each `Event` as it happens.
        stop: asked after every step; True ends the run with a checkpoint and `Stopped`.
        store: where the finished run becomes a row of the table `trainings`.
    """
    if not all(find_spec(package) for package in ("torch", "transformers", "matplotlib")):
        raise NeedsExtra("training", "train")
    opened = _openable(store)
    from prefdata.train.loop import run

    result = run(objective, export, model, Path(out), config or TrainConfig(), progress or _silent, stop or _never)
    if opened is not None:
        _record(opened, result)
    return result


def merge(
    name: str,
    models: Mapping[str, str | Path],
    out: str | Path,
    params: Mapping[str, Any] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> MergeResult:
    """Combine the weights of models that were trained from one base, and write a Hugging Face folder to `out`.

    Args:
        name: a method of the shelf `merges` (expo, paft, preference_vector).
        models: role -> folder or Hub name; the roles are the method's arguments, LoRA adapters are folded in.
        out: a new or empty folder.
        params: the method's parameters.
        progress: called with each `Event` as it happens.
    """
    if not all(find_spec(package) for package in ("torch", "transformers")):
        raise NeedsExtra("merging", "train")
    from prefdata.train.merging import run as run_merge

    return run_merge(name, models, Path(out), params or {}, progress or _silent)


def _openable(store: Store | str | Path | None) -> Store | None:
    """The store, opened once before hours of training rather than after."""
    if store is None:
        return None
    opened = store if isinstance(store, Store) else Store(store)
    with opened.write():
        pass
    return opened


def _record(store: Store, result: TrainResult) -> None:
    """The finished run's row, from its training.json."""
    facts = json.loads((result.out / "training.json").read_text(encoding="utf-8"))
    names = ("method", "params", "settings", "model", "model_fingerprint", "export", "versions")
    measured = {"start": result.start, "end": result.metrics, "rows": result.rows, "dropped": result.dropped, "steps": result.steps}
    record(
        store,
        objective=result.objective,
        path=str(result.out.resolve()),
        config={name: facts[name] for name in names},
        data_hash=facts["export_fingerprint"],
        metrics=measured,
    )


def _silent(event: Event) -> None:
    """The progress of a caller who does not want any."""


def _never() -> bool:
    return False
