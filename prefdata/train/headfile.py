"""head.json: what the numbers of a reward model mean, for whoever scores with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prefdata.train.forward import Forward
from prefdata.train.inputs import Rewards, Scored

HEAD, PEOPLE = "head.json", "people.json"


def describe(forward: Forward, result: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of head.json.

    `readout` are the weights in which the outputs make one reward, null for a head that only compares; `outputs` names them.
    """
    objective = forward.objective
    facts: dict[str, Any] = {
        "head": objective.terms[0].method.name,
        "params": dict(result["params"]),
        "outputs": list(objective.attributes) or [f"{objective.terms[0].method.name}_{i}" for i in range(objective.outputs)],
        "readout": _readout(forward),
    }
    if forward.loaded.features is not None:
        settings = result["settings"]
        facts |= {"model": result["model"], "model_fingerprint": result["model_fingerprint"], "features": settings["frozen"]}
    return facts


@torch.no_grad()
def _readout(forward: Forward) -> list[float] | None:
    """The head asked about one output at a time: 1 there, 0 elsewhere."""
    objective, size = forward.objective, forward.objective.outputs
    if not objective.many:
        return [1.0]
    each = torch.eye(size)
    everybody = forward.memory.shares.mean(0, keepdim=True).cpu().expand(size, -1)
    beside = {"draws": each, "wanted": (each, each), "taste": everybody, "membership": everybody}
    scored: Scored = objective.losses(Rewards(each, torch.zeros_like(each)), beside)
    return None if scored.chosen is None else [round(float(v), 8) for v in scored.chosen]


def people(forward: Forward) -> dict[str, Any] | None:
    """Everybody's weights over the outputs, and the mean that stands for a stranger; None where nobody is asked for."""
    memory = forward.memory
    if memory.taste is None and memory.membership is None:
        return None
    shares = memory.shares.detach().cpu()
    rows = {name: [round(float(v), 6) for v in shares[i]] for name, i in memory.people.items()}
    return {"everybody": [round(float(v), 6) for v in shares.mean(0)], "people": rows}


def write(forward: Forward, result: Mapping[str, Any], folder: Path) -> None:
    """head.json, unless the model is a plain scalar reward model, and people.json where annotators have weights."""
    for name, value in ((HEAD, describe(forward, result) if _special(forward) else None), (PEOPLE, people(forward))):
        if value is not None:
            (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _special(forward: Forward) -> bool:
    return forward.objective.kind == "reward" and (forward.objective.many or forward.loaded.features is not None)


def read(folder: Path) -> dict[str, Any] | None:
    """The contents of a folder's head.json, None where there is none."""
    file = folder / HEAD
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None
