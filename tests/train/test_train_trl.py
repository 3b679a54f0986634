"""The same steps as TRL where the definitions are the same: its losses are captured unrounded and compared step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from train_toys import toy_pairs, write_export
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from prefdata.train import Event, TrainConfig, train

STEPS, BATCH, LR = 5, 8, 1e-3
# Where TRL computes the same thing under another name: ours, its loss type, our parameters, its settings.
# Not compared, because the definitions differ: label smoothing of "sigmoid" (TRL ignores it); ORPO, whose likelihood counts
# the prompt's tokens there; "bco_pair", which has no running mean. Its "sft" term and CPO's likelihood are means over a
# batch's tokens where ours are means over rows: CPO is compared at one row a batch, where the two are one.
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
    "exo": ("exo_pair", {"label_smoothing": 0.01}, {"label_smoothing": 0.01}),
    "ld_dpo": ("sigmoid", {"alpha": 0.3}, {"ld_alpha": 0.3}),
    "f_dpo": ("sigmoid", {"divergence": "js"}, {"f_divergence_type": "js_divergence"}),
}
DIVERGENCES = {
    "forward_kl": ({}, {"f_divergence_type": "forward_kl"}),
    "alpha": ({"alpha": 0.3}, {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3}),
}


def ours(objective: str, model: Path, export: Path, out: Path, batch: int = BATCH, **params: Any) -> list[float]:
    losses: list[float] = []

    def watch(event: Event) -> None:
        if event.kind == "step":
            losses.append(event.values["loss"])

    same = {"schedule": "constant", "warmup_ratio": 0.0, "order": "as_given", "device": "cpu"}
    config = TrainConfig(params=params, max_steps=STEPS, batch_size=batch, micro_batch=4, lr=LR, **same)
    train(objective, export, model, out, config, watch)
    return losses


def theirs(trainer_class: type, args: Any, model: Any, tokenizer: Any, rows: list[dict[str, Any]], **more: Any) -> list[float]:
    losses: list[float] = []

    class Watched(trainer_class):  # type: ignore[misc, valid-type]
        def compute_loss(self, *given: Any, **named: Any) -> Any:
            out = super().compute_loss(*given, **named)
            losses.append((out[0] if isinstance(out, tuple) else out).item())
            return out

    columns = [k for k in ("prompt", "chosen", "rejected", "completion", "label") if k in rows[0]]
    data = Dataset.from_list([{k: row[k] for k in columns} for row in rows])
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


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_other_divergences(divergence: str, plain_model: Path, tmp_path: Path) -> None:
    mine, other = DIVERGENCES[divergence]
    rows = toy_pairs(STEPS * BATCH)
    export = write_export(tmp_path / "export", train=rows)
    got = ours("f_dpo", plain_model, export, tmp_path / "ours", divergence=divergence, **mine)
    args = DPOConfig(**settings(tmp_path / "trl"), **other)
    want = theirs(DPOTrainer, args, load(plain_model), AutoTokenizer.from_pretrained(plain_model), rows)
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_a_sum_of_losses(plain_model: Path, tmp_path: Path) -> None:
    rows = toy_pairs(STEPS * BATCH)
    export = write_export(tmp_path / "export", train=rows)
    got = ours("dpo + 0.3*hinge", plain_model, export, tmp_path / "ours")
    args = DPOConfig(**settings(tmp_path / "trl"), loss_type=["sigmoid", "hinge"], loss_weights=[1.0, 0.3])
    want = theirs(DPOTrainer, args, load(plain_model), AutoTokenizer.from_pretrained(plain_model), rows)
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_kto_trainer_takes_the_same_steps(plain_model: Path, tmp_path: Path) -> None:
    """Single responses, good and bad mixed; the drift from mismatched responses of the same batch."""
    pairs = toy_pairs(STEPS * BATCH)
    rows = [{"prompt": r["prompt"], "completion": r["chosen" if i % 3 else "rejected"], "label": bool(i % 3)} for i, r in enumerate(pairs)]
    export = write_export(tmp_path / "export", train=rows)
    got = ours("kto", plain_model, export, tmp_path / "ours", undesirable=1.5)
    args = KTOConfig(**settings(tmp_path / "trl"), undesirable_weight=1.5)
    want = theirs(KTOTrainer, args, load(plain_model), AutoTokenizer.from_pretrained(plain_model), rows)
    assert len(got) == STEPS
    assert len(set(got)) > 1
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


CPO = {"cpo": ({}, {}), "simpo": ({"beta": 2.0, "gamma": 1.0}, {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0})}


@pytest.mark.parametrize("name", CPO)
def test_cpo_trainer_takes_the_same_steps(name: str, plain_model: Path, tmp_path: Path) -> None:
    """One pair a batch. TRL divides its gamma by beta inside beta."""
    mine, other = CPO[name]
    rows = toy_pairs(STEPS)
    export = write_export(tmp_path / "export", train=rows)
    got = ours(name, plain_model, export, tmp_path / "ours", batch=1, **mine)
    args = CPOConfig(**{**settings(tmp_path / "trl"), "per_device_train_batch_size": 1, "max_length": 128, **other})
    want = theirs(CPOTrainer, args, load(plain_model), AutoTokenizer.from_pretrained(plain_model), rows)
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


def load(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


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
