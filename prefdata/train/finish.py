"""The finished folder: model, picture, card, and last of all training.json."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prefdata.core.errors import PrefdataError
from prefdata.core.ids import canonical_json
from prefdata.train import headfile, outdir
from prefdata.train.card import model_card
from prefdata.train.config import Event, TrainConfig, TrainResult
from prefdata.train.metrics import read_log
from prefdata.train.model import save_model
from prefdata.train.plot import draw
from prefdata.train.prepare import Prepared


def finish(
    given: Prepared, out: Path, config: TrainConfig, request: Mapping[str, Any], steps: int, progress: Callable[[Event], None]
) -> TrainResult:
    """Write everything; a crash on the way leaves the checkpoints, and resuming writes it again."""
    lines = read_log(out / outdir.METRICS)
    result = _summary(given, out, config, request, steps, lines)
    objective = given.forward.objective
    scratch = out / f".model.{os.getpid()}"
    try:
        save_model(given.forward.loaded, scratch)
        headfile.write(given.forward, result, scratch)
        title = f"{objective.name} on {len(given.train)} {result['unit']}"
        draw(lines, scratch / "training.png", title=title, policy=objective.kind == "policy", held_out=given.held_out_split or None)
        (scratch / "README.md").write_text(model_card(result, headfile.read(scratch)), encoding="utf-8")
        for file in sorted(scratch.iterdir()):
            if file.is_dir():
                shutil.rmtree(out / file.name, ignore_errors=True)
            file.replace(out / file.name)
    except OSError as error:
        raise PrefdataError(
            f"the model cannot be written to {str(out)!r} ({error.strerror or error}); the checkpoints are whole: free space "
            "and pass --resume."
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    outdir.write_json(out / outdir.RESULT, result)
    shutil.rmtree(out / outdir.CHECKPOINTS, ignore_errors=True)
    progress(Event("finished", str(out), steps, steps, result["metrics"]))
    return result_of(result, out, already=False)


def result_of(result: Mapping[str, Any], out: Path, *, already: bool) -> TrainResult:
    """TrainResult from the contents of training.json."""
    return TrainResult(
        out=out,
        objective=result["objective"],
        steps=result["steps"],
        rows=result["rows"],
        dropped=result["dropped"],
        metrics=result["metrics"],
        start=result["start"],
        notes=tuple(result["notes"]),
        already=already,
        kind=result.get("kind", "policy"),
        unit=result.get("unit", "pairs"),
    )


def _summary(
    given: Prepared, out: Path, config: TrainConfig, request: Mapping[str, Any], steps: int, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    split = given.held_out_split
    measured = [line for line in lines if line["split"] == (split or "train")]
    manifest = given.export.manifest
    settings = {
        **config.as_dict(),
        "lr": given.lr,
        "device": str(given.forward.loaded.device),
        "dtype": str(given.forward.loaded.compute).removeprefix("torch."),
    }
    settings.pop("params")
    return {
        "objective": request["objective"],
        "kind": given.forward.objective.kind,
        "unit": "pairs" if given.forward.objective.shape == "pairs" else "rows",
        "method": request["method"],
        "paper": given.forward.objective.paper,
        "params": request["params"],
        "settings": {**settings, "share_prefix": given.forward.shared},
        "model": given.model,
        "model_fingerprint": request["model_fingerprint"],
        "export": str(given.export.path),
        "export_fingerprint": request["export_fingerprint"],
        "manifest_sha256": hashlib.sha256(canonical_json(manifest).encode()).hexdigest() if manifest else None,
        "chat": given.chat,
        "rows": {"train": len(given.train), **({split: len(given.held_out)} if split else {})},
        "dropped": dict(sorted(given.dropped.items())),
        "held_out": split or None,
        "notes": given.notes,
        "steps": steps,
        "start": measured[0],
        "metrics": measured[-1],
        "versions": _versions(),
        "out": str(out),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("prefdata", "torch", "transformers", "peft"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
