"""The run's folder: claimed by one process, never written over, readable at a glance.

run.json        what was asked for; written first
metrics.jsonl   one line per logged step
checkpoints/    step-000120/state.pt; the last two, gone once the run has finished
reference/      reference log-probs
training.json   what came out; written last: its presence means finished
training.png, README.md, config.json, model.safetensors, tokenizer...
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefdata.core.errors import PrefdataError

RUN, RESULT, METRICS = "run.json", "training.json", "metrics.jsonl"
CHECKPOINTS, REFERENCE = "checkpoints", "reference"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise PrefdataError(
            f"{path} cannot be written ({error.strerror}); free space or choose another folder, nothing else was changed."
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrefdataError(
            f"{path} cannot be read ({error}); choose another --out, or remove this folder if the run in it is not needed."
        ) from None
    return dict(value)


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Hold the folder for this process; two runs in one folder would mix their files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("a")
    except OSError as error:
        raise PrefdataError(
            f"the folder {str(out)!r} cannot be written ({error.strerror}); give --out a folder you may write to."
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrefdataError(f"another process is training in {str(out)!r} right now; wait for it, or choose another --out.") from None
        yield
    finally:
        lock.close()


def look(out: Path, request: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """Whether the run described by `request` may work in this folder; the finished run's result where there is nothing to do.

    Nothing is written: a run that fails before its first step leaves no mark that would refuse the mended command. A run
    that ended before its first checkpoint has nothing to lose, and is started over.
    """
    if not (out / RUN).exists():
        others = sorted(p.name for p in out.iterdir() if not p.name.startswith(".") and p.name != REFERENCE)
        if others:
            names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise PrefdataError(f"the folder {str(out)!r} is not empty ({names}); give --out a new folder, nothing was written.")
        return None
    finished = (out / RESULT).exists()
    if not finished and not any((out / CHECKPOINTS).glob("step-*")):
        return None
    if not resume:
        state = "a finished run" if finished else "an unfinished run"
        move = "choose another --out" + ("" if finished else ", or pass --resume to go on with it")
        raise PrefdataError(f"the folder {str(out)!r} already holds {state}; {move}. Nothing was changed.")
    check_same(read_json(out / RUN), request, f"the run in {str(out)!r}")
    return read_json(out / RESULT) if finished else None


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """Refuse to continue a run as a different one; the first difference is named."""
    then, flat = _flat(earlier), _flat(now)
    for name in [*flat, *then]:
        if then.get(name) != flat.get(name):
            label = {"model_fingerprint": "the model's files", "export_fingerprint": "the export's files"}.get(name, name)
            values = "" if name.endswith("fingerprint") else f": it was {then.get(name)!r} and is now {flat.get(name)!r}"
            raise PrefdataError(
                f"{what} cannot be continued, {label} changed{values}; use what it was started with, or choose another --out for a new run."
            )


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            out.update(item)
        else:
            out[name] = item
    return out
