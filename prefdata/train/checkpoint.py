"""Checkpoints: everything that decides the rest of the run, written aside and renamed, so that one is whole or absent."""

from __future__ import annotations

import os
import pickle
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prefdata.core.errors import PrefdataError
from prefdata.train.memory import Memory
from prefdata.train.model import Loaded
from prefdata.train.outdir import CHECKPOINTS, check_same

KEEP = 2
_NAME = re.compile(r"step-(\d{6,})")


def save(
    out: Path,
    step: int,
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    request: Mapping[str, Any],
    metrics_bytes: int,
    memory: Memory,
) -> Path:
    """Weights being trained, optimiser, the objective's memory, random states and position; older checkpoints but the last go."""
    folder = out / CHECKPOINTS
    target, temporary = folder / f"step-{step:06d}", folder / f".step-{step:06d}.{os.getpid()}"
    state = {
        "step": step,
        "model": {name: p.detach() for name, p in loaded.trainable().items()},
        "optimizer": optimizer.state_dict(),
        "rng": _random_states(),
        "request": dict(request),
        "metrics_bytes": metrics_bytes,
        "memory": memory.state,
    }
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        with (temporary / "state.pt").open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        last = newest(out)
        kept = f"the last one, of step {last[0]}, is whole" if last else "there is no earlier one"
        raise PrefdataError(
            f"the checkpoint of step {step} cannot be written to {folder} ({str(error).splitlines()[0]}); {kept}. Free space "
            "and pass --resume."
        ) from None
    for _, old in _all(out)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest(out: Path) -> tuple[int, Path] | None:
    found = _all(out)
    return found[-1] if found else None


def restore(
    out: Path, loaded: Loaded, optimizer: torch.optim.Optimizer, request: Mapping[str, Any], memory: Memory
) -> tuple[int, int] | None:
    """Put the newest readable checkpoint back; its step and the length of metrics.jsonl then. None where there is none."""
    for left_over in (out / CHECKPOINTS).glob(".step-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    found = _all(out)
    for step, folder in reversed(found):
        try:
            state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError):
            continue
        check_same(state["request"], request, f"the checkpoint {folder}")
        _put_weights(state["model"], loaded, folder)
        optimizer.load_state_dict(state["optimizer"])
        memory.restore(state["memory"])
        _set_random_states(state["rng"])
        return step, int(state["metrics_bytes"])
    if found:
        raise PrefdataError(f"no checkpoint in {out / 'checkpoints'} can be read; choose another --out and start again.")
    return None


def _all(out: Path) -> list[tuple[int, Path]]:
    folders = (out / CHECKPOINTS).glob("step-*")
    return sorted((int(match[1]), p) for p in folders if (match := _NAME.fullmatch(p.name)))


def _put_weights(saved: Mapping[str, torch.Tensor], loaded: Loaded, folder: Path) -> None:
    weights = loaded.trainable()
    odd = next((n for n in {**weights, **saved} if n not in weights or n not in saved or weights[n].shape != saved[n].shape), None)
    if odd:
        raise PrefdataError(
            f"the checkpoint {folder} belongs to another model (they differ in {odd!r}); resume with the model the run was started from."
        )
    with torch.no_grad():
        for name, value in saved.items():
            weights[name].copy_(value)


def _random_states() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"python": [version, list(internal), gauss], "torch": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: Mapping[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
