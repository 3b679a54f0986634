"""`prefdata train` as typed: options reach the trainer, output is for people or for machines, Ctrl-C is clean."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from prefdata.cli import train as command
from prefdata.core.errors import PrefdataError
from prefdata.train import TrainConfig

app = typer.Typer()
app.command("train")(command.train)
app.command("other", hidden=True)(lambda: None)


def invoke(*args: object) -> tuple[str, str]:
    got = CliRunner().invoke(app, ["train", *map(str, args)])
    if got.exception is not None and not isinstance(got.exception, SystemExit):
        raise got.exception
    assert got.exit_code == 0, got.output
    return got.stdout, got.stderr


@pytest.fixture
def line(plain_model: Path, toy: Path, tmp_path: Path) -> list[object]:
    return ["dpo", toy, "--model", plain_model, "--out", tmp_path / "out", "--lr", "3e-3", "--max-steps", 3, "--batch-size", 16]


def test_for_people(line: list[object], tmp_path: Path) -> None:
    out, err = invoke(*line, "--beta", "0.2", "--set", "label_smoothing=0.1", "--warmup-ratio", 0)
    assert "3 steps on 64 pairs; left out: none." in out
    assert err.rstrip().splitlines()[-1] == f"next: prefdata run RECIPE.yaml models.policy.path={tmp_path / 'out'}"
    assert "step 3/3  validation: loss" in err
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["params"] == {"beta": 0.2, "label_smoothing": 0.1}
    assert (summary["settings"]["lr"], summary["settings"]["warmup_ratio"]) == (0.003, 0.0)


def test_for_machines(line: list[object]) -> None:
    out, err = invoke(*line, "--json")
    assert err == ""
    got = json.loads(out)
    assert (got["steps"], got["rows"], got["already"]) == (3, {"train": 64, "validation": 24}, False)
    again, _ = invoke(*line, "--json", "--resume")
    assert json.loads(again) == {**got, "already": True}


def test_accumulation_through_the_command(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """1 x 8 and 8 x 1 give the same model."""
    weights = []
    for micro in (8, 1):
        out = tmp_path / str(micro)
        invoke(
            "dpo",
            toy,
            "--model",
            plain_model,
            "--out",
            out,
            "--lr",
            1e-3,
            "--max-steps",
            4,
            "--batch-size",
            8,
            "--micro-batch",
            micro,
            "--json",
        )
        weights.append(load_file(out / "model.safetensors"))
    assert max(float((weights[0][k] - weights[1][k]).abs().max()) for k in weights[0]) < 2e-5


def test_errors_reach_main(line: list[object]) -> None:
    with pytest.raises(PrefdataError, match="Did you mean 'beta'"):
        invoke(*line, "--set", "bet=1")
    with pytest.raises(PrefdataError, match="is not KEY=VALUE"):
        invoke(*line, "--set", "beta")


def test_values_of_set() -> None:
    got = command.parameters(["a=0.1", "b=1e-3", "c=true", "d=sum", "e=3", "f=mean", "g=[tone, truth]", "h=[1,-0.5]", "i=[]"], beta=None)
    assert got == {"a": 0.1, "b": 0.001, "c": True, "d": "sum", "e": 3, "f": "mean", "g": ["tone", "truth"], "h": [1, -0.5], "i": []}


def test_a_sum_and_a_frozen_head_as_typed(plain_model: Path, encoder: Path, toy: Path, tmp_path: Path) -> None:
    out, _ = invoke(
        "dpo + 0.2*sft", toy, "--model", plain_model, "--out", tmp_path / "sum", "--max-steps", 1, "--set", "beta=0.3", "--json"
    )
    assert json.loads(out)["objective"] == "dpo + 0.2*sft"
    shown, err = invoke("reward", toy, "--model", encoder, "--out", tmp_path / "frozen", "--frozen", "layers", "--max-steps", 1)
    assert "1 steps on 64 pairs" in shown
    assert err.rstrip().splitlines()[-1] == f"next: cat {tmp_path / 'frozen' / 'README.md'}"


def test_defaults_are_the_librarys() -> None:
    """The command and TrainConfig name the same defaults."""
    library = {f.name: f.default for f in fields(TrainConfig)}
    for name, parameter in inspect.signature(command.train).parameters.items():
        if name in library and name not in ("use", "ignore"):
            assert parameter.default == library[name], name


def test_help_has_an_example() -> None:
    got = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert "Example:  prefdata train dpo" in got.stdout


def test_importing_the_command_imports_no_torch() -> None:
    code = "import sys, prefdata.cli.train; print([m for m in ('torch', 'transformers', 'polars') if m in sys.modules])"
    got = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert got.stdout.strip() == "[]"


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["train", "dpo", str(toy), "--model", str(plain_model), "--out", str(out), "--lr", "1e-3", "--max-steps", "100000"]
    code = (
        "import sys, torch, typer; torch.set_num_threads(1)\n"
        "from prefdata.cli.train import train\nfrom prefdata.core.errors import PrefdataError\n"
        "app = typer.Typer(); app.command('train')(train); app.command('other')(lambda: None)\n"
        "try:\n    app()\nexcept PrefdataError as error:\n    print(error); sys.exit(2)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists() or '"step": 3,' not in (out / "metrics.jsonl").read_text():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 2
    assert "--resume goes on from there" in said
    assert list((out / "checkpoints").glob("step-*"))
