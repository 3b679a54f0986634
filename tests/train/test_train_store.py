"""A finished training is a row of the store, once; a training without a store needs none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from prefdata.cli import status as status_command
from prefdata.cli import train as command
from prefdata.core import queries
from prefdata.core.errors import PrefdataError, Stopped
from prefdata.core.export_io import load_export
from prefdata.core.store import Store
from prefdata.core.trainings import record
from prefdata.train import Event, TrainConfig, train

QUICK: dict[str, Any] = {"max_steps": 2, "batch_size": 16, "lr": 1e-3, "device": "cpu"}
app = typer.Typer()
app.command("train")(command.train)
app.command("status")(status_command.status)


def rows(store: Store) -> list[dict[str, Any]]:
    with store.read() as db:
        return queries.rows(db, "SELECT * FROM trainings ORDER BY created")


def test_a_finished_run_is_a_row(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """With parameters, settings, both fingerprints and what was measured; finding it finished again adds nothing."""
    store = Store(tmp_path / "s.duckdb")
    out = tmp_path / "out"
    result = train("dpo", toy, plain_model, out, TrainConfig(params={"beta": 0.2}, **QUICK), store=store)
    (row,) = rows(store)
    assert (row["objective"], row["path"]) == ("dpo", str(out.resolve()))
    assert row["data_hash"] == load_export(toy).fingerprint
    config, metrics = json.loads(row["config"]), json.loads(row["metrics"])
    assert config["params"] == {"beta": 0.2, "label_smoothing": 0.0}
    assert config["settings"]["lr"] == 1e-3
    assert len(config["model_fingerprint"]) == 32
    assert metrics["end"]["loss"] == result.metrics["loss"]
    assert (metrics["rows"], metrics["steps"]) == ({"train": 64, "validation": 24}, 2)
    assert train("dpo", toy, plain_model, out, TrainConfig(params={"beta": 0.2}, resume=True, **QUICK), store=store).already
    assert len(rows(store)) == 1
    train("simpo", toy, plain_model, tmp_path / "two", TrainConfig(**QUICK), store=tmp_path / "s.duckdb")
    assert [row["objective"] for row in rows(store)] == ["dpo", "simpo"]


def test_only_what_finished_is_a_row(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    steps: list[Event] = []
    with pytest.raises(Stopped):
        train(
            "dpo",
            toy,
            plain_model,
            tmp_path / "out",
            TrainConfig(**QUICK),
            steps.append,
            lambda: any(e.kind == "step" for e in steps),
            store,
        )
    assert rows(store) == []
    train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**QUICK, resume=True), store=store)
    assert len(rows(store)) == 1


def test_a_store_that_cannot_be_written_is_said_before_the_training(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are no tables, but a text of some length")
    with pytest.raises(PrefdataError, match="is not a prefdata store"):
        train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**QUICK), store=tmp_path / "notes.txt")
    assert not (tmp_path / "out").exists()


def test_the_same_row_is_added_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    given: dict[str, Any] = {"objective": "dpo", "path": "/o", "config": {"a": 1}, "data_hash": "h", "metrics": {"loss": 0.5}}
    assert [record(store, **given), record(store, **given), record(store, **{**given, "data_hash": "i"})] == [True, False, True]
    assert len(rows(store)) == 2


def invoke(*args: object) -> str:
    got = CliRunner().invoke(app, [str(a) for a in args])
    if got.exception is not None and not isinstance(got.exception, SystemExit):
        raise got.exception
    assert got.exit_code == 0, got.output
    return got.stdout


def test_the_command_finds_the_store(plain_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named, which must be there; else the usual one, if it is; else none is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFDATA_STORE", raising=False)
    line = ["train", "dpo", toy, "--model", plain_model, "--lr", "1e-3", "--max-steps", 1, "--json", "--out"]
    invoke(*line, tmp_path / "a")
    assert not (tmp_path / "prefdata.duckdb").exists()
    with pytest.raises(PrefdataError, match="there is no store at"):
        invoke(*line, tmp_path / "b", "--store", tmp_path / "none.duckdb")
    with Store(tmp_path / "prefdata.duckdb").write():
        pass
    invoke(*line, tmp_path / "c")
    monkeypatch.setenv("PREFDATA_STORE", str(tmp_path / "mine.duckdb"))
    with Store(tmp_path / "mine.duckdb").write():
        pass
    invoke(*line, tmp_path / "d")
    for name, out in (("prefdata", "c"), ("mine", "d")):
        assert [Path(row["path"]).name for row in rows(Store(tmp_path / f"{name}.duckdb"))] == [out]
    shown = json.loads(invoke("status", "--store", tmp_path / "mine.duckdb", "--json"))["trainings"]
    assert [(row["objective"], Path(row["path"]).name) for row in shown] == [("dpo", "d")]
