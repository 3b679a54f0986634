"""Bad input gets one sentence with the value, what is allowed and the next move; nothing is lost."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toys import as_chat, make_model, toy_pairs, write_export

from prefdata.core.errors import PrefdataError
from prefdata.train import Event, TrainConfig, checkpoint, train

QUICK: dict[str, Any] = {"batch_size": 16, "lr": 3e-3, "device": "cpu", "max_steps": 2}


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("batch_size", 0, "batch_size is 0; allowed: a whole number of at least 1"),
        ("micro_batch", 1.5, r"micro_batch is 1\.5"),
        ("epochs", -1, "epochs is -1; allowed: a number above 0"),
        ("lr", float("nan"), "lr is nan"),
        ("warmup_ratio", 2, "warmup_ratio is 2"),
        ("truncation", "cut", "truncation is 'cut'; allowed: refuse, keep_start, keep_end"),
        ("schedule", "square", "schedule is 'square'; allowed: cosine, linear, constant"),
        ("dtype", "int8", "dtype is 'int8'"),
        ("ignore", ("margin",), "ignore is 'margin'; allowed: weight, ref"),
        ("use", ("weight",), "use is 'weight'; allowed: margin, p"),
        ("use", ("margin",), "dpo cannot use the column 'margin'"),
        ("device", "cuda:7", "device 'cuda:7' cannot be used"),
        ("device", "tpu", "device 'tpu' cannot be used"),
        ("max_length", 4096, "max_length is 4096; allowed: up to 128, the model's context"),
        ("params", {"beta": 0}, "beta is 0"),
        ("params", {"gamma": 1}, "unknown parameter 'gamma' of losses/dpo"),
    ],
)
def test_settings(setting: str, value: Any, says: str, plain_model: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match=says):
        train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**{**QUICK, setting: value}))
    assert not (tmp_path / "out" / "run.json").exists(), "the mended command must find the folder free"


def test_objective_and_paths(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    for says, objective, export, model in (
        ("unknown objective 'smipo'. Did you mean 'simpo'", "smipo", toy, plain_model),
        ("does not exist", "dpo", tmp_path / "none", plain_model),
        (r"no model folder .with a config\.json. at", "dpo", toy, tmp_path),
        ("no model folder at 'no/such-model-here'", "dpo", toy, "no/such-model-here"),
    ):
        with pytest.raises(PrefdataError, match=says):
            train(objective, export, model, tmp_path / "out", TrainConfig(**QUICK))


def test_model_folders(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    bare, broken, small = tmp_path / "bare", tmp_path / "broken", tmp_path / "small"
    for folder, keep in (
        (bare, ("config.json", "model.safetensors")),
        (broken, ("config.json", "tokenizer.json", "tokenizer_config.json")),
    ):
        folder.mkdir()
        for name in keep:
            (folder / name).write_bytes((plain_model / name).read_bytes())
    with pytest.raises(PrefdataError, match="no tokenizer"):
        train("dpo", toy, bare, tmp_path / "out", TrainConfig(**QUICK))
    with pytest.raises(PrefdataError, match="does not load as a language model"):
        train("dpo", toy, broken, tmp_path / "out", TrainConfig(**QUICK))
    make_model(small, vocab_size=100)
    with pytest.raises(PrefdataError, match="knows 420 tokens and the model only 100"):
        train("dpo", toy, small, tmp_path / "out", TrainConfig(**QUICK))


def test_random_weights_are_not_trained_from(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """A reward model has no output layer: transformers would make one up. A broken file is named."""
    train("reward", toy, plain_model, tmp_path / "rm", TrainConfig(**QUICK))
    with pytest.raises(PrefdataError, match=r"lacks the weights 'lm_head\.weight'"):
        train("dpo", toy, tmp_path / "rm", tmp_path / "out", TrainConfig(**QUICK))
    weights = (tmp_path / "rm" / "model.safetensors").read_bytes()
    (tmp_path / "rm" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(PrefdataError, match="does not load as a language model"):
        train("reward", toy, tmp_path / "rm", tmp_path / "out", TrainConfig(**QUICK))


def test_training_without_torch_names_the_extra(plain_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.train.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(PrefdataError, match=r"pip install 'prefdata\[train\]'"):
        train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**QUICK))


def test_conversations_without_a_template(plain_model: Path, toy_chat: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match=r"conversations and the model .* has no chat template"):
        train("dpo", toy_chat, plain_model, tmp_path / "out", TrainConfig(**QUICK))


def test_nothing_to_train_on(plain_model: Path, tmp_path: Path) -> None:
    empty = write_export(tmp_path / "empty", train=toy_pairs(1), validation=toy_pairs(2))
    (empty / "manifest.json").unlink()
    import polars as pl

    pl.DataFrame(toy_pairs(1)).clear().write_parquet(empty / "data/train-00000-of-00001.parquet")
    with pytest.raises(PrefdataError, match="no training rows"):
        train("dpo", empty, plain_model, tmp_path / "out", TrainConfig(**QUICK))
    long = write_export(tmp_path / "long", train=[{**r, "chosen": r["chosen"] * 20} for r in toy_pairs(3)])
    with pytest.raises(PrefdataError, match=r"no training pair is left: 3 too_long .*limit 128.*--max-length"):
        train("dpo", long, plain_model, tmp_path / "out", TrainConfig(**QUICK))


def test_soft_needs_its_column_and_reward_reads_one_of_two(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match="soft is to read the column 'p' and the export has none"):
        train("soft", toy, plain_model, tmp_path / "out", TrainConfig(**QUICK))
    both = write_export(tmp_path / "both", train=[{**r, "p": 0.7, "margin": 1.0} for r in toy_pairs(3)])
    with pytest.raises(PrefdataError, match="margin or p, not both"):
        train("reward", both, plain_model, tmp_path / "out", TrainConfig(**QUICK, use=("p", "margin")))
    result = train("reward", both, plain_model, tmp_path / "out", TrainConfig(**QUICK))
    assert "the export's margin and p are not read (--use margin or --use p trains on it)" in result.notes


def test_nan_stops_before_the_weights_are_spoilt(plain_model: Path, tmp_path: Path) -> None:
    """A pair whose loss overflows is named, and the checkpoint from before is whole."""
    rows = toy_pairs(8)
    rows[5] = {**rows[5], "weight": 1e39}
    export = write_export(tmp_path / "e", train=[{"weight": 1.0, **r} for r in rows])
    out = tmp_path / "out"
    config = TrainConfig(**{**QUICK, "max_steps": 6, "batch_size": 2}, order="as_given", save_every=1)
    with pytest.raises(PrefdataError, match=r"the loss of pair 'pair-0005' .*step 3 of 6.*checkpoint of step 2 is whole.*--lr"):
        train("dpo", export, plain_model, out, config)
    _, folder = checkpoint.newest(out) or (0, out)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_out_of_memory_says_what_to_change(plain_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefdata.train.forward import Forward

    def full(self: Forward, *given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Forward, "rows", full)
    with pytest.raises(PrefdataError, match=r"out of memory with 8 pairs at once.*--micro-batch .the result stays the same"):
        train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(**QUICK))


def test_folders_that_cannot_be_used(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    with pytest.raises(PrefdataError, match=r"not empty \(thesis\.tex\).*nothing was written"):
        train("dpo", toy, plain_model, full, TrainConfig(**QUICK))
    assert (full / "thesis.tex").read_text() == "years of work"
    with pytest.raises(PrefdataError, match="is not empty"):
        train("dpo", toy, plain_model, plain_model, TrainConfig(**QUICK))
    with pytest.raises(PrefdataError, match="cannot be written"):
        train("dpo", toy, plain_model, full / "thesis.tex" / "out", TrainConfig(**QUICK))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PrefdataError, match="cannot be written"):
        train("dpo", toy, plain_model, tmp_path / "locked" / "out", TrainConfig(**QUICK))


def test_two_runs_in_one_folder(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PrefdataError, match="another process is training"):
            train("dpo", toy, plain_model, out, TrainConfig(**QUICK))
    assert train("dpo", toy, plain_model, out, TrainConfig(**QUICK)).steps == 2


def test_full_disk_keeps_the_last_checkpoint(plain_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, out = torch.save, tmp_path / "out"

    def fill(state: Any, stream: Any) -> None:
        if state["step"] == 3:
            raise OSError(28, "No space left on device")
        real(state, stream)

    monkeypatch.setattr(torch, "save", fill)
    settings = {**QUICK, "max_steps": 5}
    with pytest.raises(PrefdataError, match=r"step 3 cannot be written .*No space left.*step 2, is whole.*--resume"):
        train("dpo", toy, plain_model, out, TrainConfig(**settings, save_every=1))
    monkeypatch.undo()
    assert train("dpo", toy, plain_model, out, TrainConfig(**settings, save_every=1, resume=True)).steps == 5


def test_plain_prompts_for_a_chat_model_are_mentioned(chat_model: Path, toy: Path, tmp_path: Path) -> None:
    """And the note that must not fire does not."""
    notes: dict[str, list[str]] = {"plain": [], "chat": []}
    export = write_export(tmp_path / "chat", train=as_chat(toy_pairs(16)), validation=as_chat(toy_pairs(4, seed=7)))
    for name, data in (("plain", toy), ("chat", export)):

        def watch(event: Event, name: str = name) -> None:
            if event.kind == "note":
                notes[name].append(event.text)

        train("dpo", data, chat_model, tmp_path / name / "out", TrainConfig(**QUICK), watch)
    assert any("plain strings" in n for n in notes["plain"])
    assert notes["chat"] == []


def test_no_held_out_rows(plain_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = train("dpo", write_export(tmp_path / "e", train=toy_pairs(8)), plain_model, out, TrainConfig(**QUICK))
    assert any("no held-out split" in n for n in result.notes)
    assert result.metrics["split"] == "train"
    assert json.loads((out / "training.json").read_text())["held_out"] is None
