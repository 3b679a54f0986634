"""The same steps as TRL where the definitions are the same: its losses are captured unrounded and compared step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from train_toys import toy_pairs, write_export
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from prefdata.train import Event, TrainConfig, train

STEPS, BATCH, LR = 5, 8, 1e-3
# Where TRL computes the same thing under another name. Not compared: sigmoid with label smoothing (TRL ignores it).
SAME = {
    "dpo": ("sigmoid", {}, {}),
    "ipo": ("ipo", {}, {}),
    "hinge": ("hinge", {}, {}),
    "robust": ("robust", {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    "apo_zero": ("apo_zero", {}, {}),
    "apo_down": ("apo_down", {}, {}),
    "nca": ("nca_pair", {}, {}),
    "sppo": ("sppo_hard", {"beta": 0.1, "reduce": "sum"}, {"beta": 0.1}),
    "ln_dpo": ("sigmoid_norm", {"beta": 2.0}, {"beta": 2.0}),
}


def ours(objective: str, model: Path, export: Path, out: Path, **params: Any) -> list[float]:
    losses: list[float] = []

    def watch(event: Event) -> None:
        if event.kind == "step":
            losses.append(event.values["loss"])

    same = {"schedule": "constant", "warmup_ratio": 0.0, "order": "as_given", "device": "cpu"}
    config = TrainConfig(params=params, max_steps=STEPS, batch_size=BATCH, micro_batch=4, lr=LR, **same)
    train(objective, export, model, out, config, watch)
    return losses


def theirs(trainer_class: type, args: Any, model: Any, tokenizer: Any, rows: list[dict[str, Any]], **more: Any) -> list[float]:
    losses: list[float] = []

    class Watched(trainer_class):  # type: ignore[misc, valid-type]
        def compute_loss(self, *given: Any, **named: Any) -> Any:
            out = super().compute_loss(*given, **named)
            losses.append((out[0] if isinstance(out, tuple) else out).item())
            return out

    data = Dataset.from_list([{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in rows])
    Watched(model=model, args=args, train_dataset=data, processing_class=tokenizer, **more).train()
    return losses


def settings(out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": BATCH,
        "max_steps": STEPS,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
    }


@pytest.mark.parametrize("name", SAME)
def test_dpo_trainer_takes_the_same_steps(name: str, plain_model: Path, tmp_path: Path) -> None:
    loss_type, mine, other = SAME[name]
    rows = toy_pairs(STEPS * BATCH)
    export = write_export(tmp_path / "export", train=rows)
    got = ours(name, plain_model, export, tmp_path / "ours", **mine)
    args = DPOConfig(**settings(tmp_path / "trl"), loss_type=loss_type, **other)
    tokenizer = AutoTokenizer.from_pretrained(plain_model)
    want = theirs(DPOTrainer, args, AutoModelForCausalLM.from_pretrained(plain_model, dtype=torch.float32), tokenizer, rows)
    assert len(got) == STEPS
    assert len(set(got)) > 1
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_reward_trainer_takes_the_same_steps(plain_model: Path, tmp_path: Path) -> None:
    """From the same head; TRL gets our padding token, as with padding = EOS it reads the score one token early."""
    rows = toy_pairs(STEPS * BATCH)
    export = write_export(tmp_path / "export", train=rows)
    config = TrainConfig(max_steps=1, lr=1e-30, batch_size=BATCH, device="cpu", params={"centring": 0.01})
    start = tmp_path / "start"
    train("reward", export, plain_model, start, config)
    got = ours("reward", start, export, tmp_path / "ours", centring=0.01)
    model = AutoModelForSequenceClassification.from_pretrained(start, dtype=torch.float32)
    args = RewardConfig(**settings(tmp_path / "trl"), center_rewards_coefficient=0.01)
    want = theirs(RewardTrainer, args, model, AutoTokenizer.from_pretrained(start), rows)
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)
