"""A run that is stopped, killed or restarted takes the very same path: weights bit for bit, metrics line for line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_toys import make_model, toy_pairs, write_export

from prefdata.core.errors import PrefdataError, Stopped
from prefdata.train import Event, TrainConfig, train

STEPS = 12
SETTINGS: dict[str, Any] = {"max_steps": STEPS, "batch_size": 16, "lr": 3e-3, "device": "cpu", "save_every": 2, "eval_every": 4}
TIMES = ("seconds", "tokens_per_s")


@pytest.fixture(scope="module")
def whole(plain_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts; three epochs of four steps."""
    out = tmp_path_factory.mktemp("whole") / "out"
    train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS))
    return out


def stop_at(step: int) -> tuple[Callable[[Event], None], Callable[[], bool]]:
    seen = [0]

    def watch(event: Event) -> None:
        if event.kind == "step":
            seen[0] = event.done

    return watch, lambda: seen[0] >= step


def lines(out: Path) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in parsed]


def same(one: Path, other: Path) -> bool:
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) and lines(one) == lines(other)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_stop_and_go_on(at: int, whole: Path, plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """At a step without a checkpoint of its own, at the end of an epoch, in the middle of one."""
    out = tmp_path / "out"
    watch, stop = stop_at(at)
    with pytest.raises(Stopped, match=f"stopped at step {at} of {STEPS}.*--resume"):
        train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS), watch, stop)
    torch.manual_seed(99)
    result = train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS, resume=True))
    assert result.steps == STEPS
    assert same(whole, out)


def test_reward_run_goes_on_with_its_own_head(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    config = {**SETTINGS, "max_steps": 6}
    train("reward", toy, plain_model, tmp_path / "whole", TrainConfig(**config))
    watch, stop = stop_at(3)
    with pytest.raises(Stopped):
        train("reward", toy, plain_model, tmp_path / "out", TrainConfig(**config), watch, stop)
    train("reward", toy, plain_model, tmp_path / "out", TrainConfig(**config, resume=True))
    assert same(tmp_path / "whole", tmp_path / "out")


def test_adapter_run_goes_on(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """Only the adapter is in the checkpoint; the base comes from the model, and the reference from the start."""
    config = {**SETTINGS, "max_steps": 6, "lora": 4}
    train("dpo", toy, plain_model, tmp_path / "whole", TrainConfig(**config))
    watch, stop = stop_at(3)
    with pytest.raises(Stopped):
        train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**config), watch, stop)
    train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**config, resume=True))
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert lines(tmp_path / "whole") == lines(tmp_path / "out")


def test_kill_nine(whole: Path, plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """SIGKILL between two checkpoints loses the steps since the last one, and nothing else."""
    out = tmp_path / "out"
    code = (
        "import sys, time, torch; torch.set_num_threads(1)\n"
        "from prefdata.train import TrainConfig, train\n"
        f"train('dpo', {str(toy)!r}, {str(plain_model)!r}, {str(out)!r}, TrainConfig(**{SETTINGS!r}),\n"
        "      lambda e: time.sleep(0.2) if e.kind == 'step' and e.done >= 5 else None)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists() or '"step": 5,' not in (out / "metrics.jsonl").read_text():
            assert child.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (out / "training.json").exists()
    assert sorted(p.name for p in (out / "checkpoints").glob("step-*"))[-1] == "step-000004"
    train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS, resume=True))
    assert same(whole, out)


def test_killed_while_writing_a_checkpoint(whole: Path, plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """Half a checkpoint under its temporary name is swept away; a broken one under its own name falls back to the one before."""
    out = tmp_path / "out"
    watch, stop = stop_at(7)
    with pytest.raises(Stopped):
        train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS), watch, stop)
    checkpoints = out / "checkpoints"
    (checkpoints / ".step-000008.4711").mkdir()
    newest = sorted(checkpoints.glob("step-*"))[-1]
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:1000])
    train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS, resume=True))
    assert same(whole, out)


def test_died_before_the_first_checkpoint(whole: Path, plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """Such a run has nothing to lose: the same command starts it over, with or without --resume."""
    out = tmp_path / "out"
    watch, stop = stop_at(1)
    with pytest.raises(Stopped):
        train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS), watch, stop)
    shutil.rmtree(out / "checkpoints")
    train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS))
    assert same(whole, out)


def test_a_finished_run_computes_nothing(whole: Path, plain_model: Path, toy: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in whole.iterdir()}
    events: list[Event] = []
    result = train("dpo", toy, plain_model, whole, TrainConfig(**SETTINGS, resume=True), events.append)
    assert result.already
    assert result.metrics["step"] == STEPS
    assert not events
    assert {p.name: p.stat().st_mtime_ns for p in whole.iterdir()} == before


def test_resume_starts_where_there_is_nothing(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    assert train("dpo", toy, plain_model, tmp_path / "new", TrainConfig(**{**SETTINGS, "max_steps": 1}, resume=True)).steps == 1


def test_going_on_with_less_memory(whole: Path, plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """How a batch is computed may change on the way; the result is the same but for rounding."""
    out = tmp_path / "out"
    watch, stop = stop_at(7)
    with pytest.raises(Stopped):
        train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS), watch, stop)
    train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS, resume=True, micro_batch=2, gradient_checkpointing=True))
    a, b = load_file(whole / "model.safetensors"), load_file(out / "model.safetensors")
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-4


def test_only_the_same_run_goes_on(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    watch, stop = stop_at(2)
    with pytest.raises(Stopped):
        train("dpo", toy, plain_model, out, TrainConfig(**SETTINGS), watch, stop)
    other_model = make_model(tmp_path / "other", seed=8)
    other_export = write_export(tmp_path / "export", train=toy_pairs(60))
    kept = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = {**SETTINGS, "resume": True}
    for says, given in {
        "already holds an unfinished run.*--resume": ("dpo", toy, plain_model, SETTINGS),
        "lr changed: it was 0.003 and is now 0.001": ("dpo", toy, plain_model, {**again, "lr": 0.001}),
        "beta changed: it was 0.1 and is now 0.2": ("dpo", toy, plain_model, {**again, "params": {"beta": 0.2}}),
        "objective changed": ("ipo", toy, plain_model, again),
        "the model's files changed": ("dpo", toy, other_model, again),
        "the export's files changed": ("dpo", other_export, plain_model, again),
    }.items():
        objective, export, model, settings = given
        with pytest.raises(PrefdataError, match=says):
            train(objective, export, model, out, TrainConfig(**settings))
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == kept


def test_checkpoint_of_another_run_is_refused(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """Also where someone copied it into this run's folder."""
    for name, lr in (("a", 3e-3), ("b", 1e-3)):
        watch, stop = stop_at(2)
        with pytest.raises(Stopped):
            train("dpo", toy, plain_model, tmp_path / name, TrainConfig(**{**SETTINGS, "lr": lr}), watch, stop)
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "a" / "checkpoints")
    with pytest.raises(PrefdataError, match=r"checkpoint .* cannot be continued, lr changed"):
        train("dpo", toy, plain_model, tmp_path / "a", TrainConfig(**SETTINGS, resume=True))
