"""Whole runs: what they learn, what they leave behind, what must not change their result."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from train_toys import as_chat, make_model, rows_for, toy_pairs, write_export
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from prefdata.core.catalogue import shelf_methods
from prefdata.core.export_io import load_export
from prefdata.train import Event, TrainConfig, train
from prefdata.train.reference import Cache

QUICK: dict[str, Any] = {"batch_size": 16, "lr": 3e-3, "device": "cpu"}


def log_of(out: Path, split: str | None = None) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if split is None or line["split"] == split]


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def difference(one: Path, other: Path) -> float:
    a, b = weights_of(one), weights_of(other)
    assert a.keys() == b.keys()
    return max(float((a[k].float() - b[k].float()).abs().max()) for k in a)


# What is learnt


@pytest.mark.parametrize("chat", [False, True])
def test_dpo_learns_held_out_pairs(chat: bool, plain_model: Path, chat_model: Path, toy: Path, toy_chat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = train("dpo", toy_chat if chat else toy, chat_model if chat else plain_model, out, TrainConfig(epochs=3, **QUICK))
    start, end = result.start, result.metrics
    assert start["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert (start["accuracy"], start["tied"]) == (None, 1.0), "before training nothing is decided, which is not an accuracy of 0"
    assert start["chosen_shift"] == pytest.approx(0, abs=1e-4)
    assert end["accuracy"] == 1.0
    assert end["margin"] > 1
    assert end["loss"] < 0.3
    assert end["chosen_shift"] > end["rejected_shift"]
    assert (result.rows, result.steps, result.dropped) == ({"train": 64, "validation": 24}, 12, {})


def test_wrong_labels_teach_the_opposite(plain_model: Path, tmp_path: Path) -> None:
    """The sign is right: with chosen and rejected swapped, the held-out margin goes down."""
    swapped = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in toy_pairs(64)]
    export = write_export(tmp_path / "e", train=swapped, validation=toy_pairs(24, seed=7, offset=1000))
    assert train("dpo", export, plain_model, tmp_path / "out", TrainConfig(epochs=2, **QUICK)).metrics["accuracy"] == 0.0


@pytest.mark.parametrize("name", sorted(shelf_methods("losses")))
def test_every_loss_trains(name: str, plain_model: Path, tmp_path: Path) -> None:
    """By its defaults; sppo's squares and dpop's penalty need a smaller step than the rest."""
    rows = rows_for(name, 32)
    export = write_export(tmp_path / "e", train=rows, validation=rows[:8])
    use = ("p",) if name == "sppo" else ()
    result = train(name, export, plain_model, tmp_path / "out", TrainConfig(max_steps=6, batch_size=16, lr=1e-3, device="cpu", use=use))
    assert result.metrics["loss"] < result.start["loss"]
    if name != "sft":
        assert result.metrics["margin"] > result.start["margin"]


def test_reward_model_learns_and_scores_as_trained(chat_model: Path, toy_chat: Path, tmp_path: Path) -> None:
    """Loaded the usual way and asked about rendered conversations in a padded batch, it gives the trained numbers."""
    out = tmp_path / "out"
    result = train("reward", toy_chat, chat_model, out, TrainConfig(epochs=3, params={"centring": 0.01}, **QUICK))
    assert result.metrics["accuracy"] == 1.0
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    means = {}
    for side in ("chosen", "rejected"):
        talks = [[*r["prompt"], *r[side]] for r in as_chat(toy_pairs(24, seed=7, offset=1000))]
        inputs = tokenizer.apply_chat_template(talks, return_tensors="pt", return_dict=True, padding=True)
        with torch.no_grad():
            means[side] = model(**inputs).logits[:, 0].mean().item()
    assert means["chosen"] == pytest.approx(result.metrics["chosen_reward"], abs=1e-5)
    assert means["rejected"] == pytest.approx(result.metrics["rejected_reward"], abs=1e-5)


def test_reward_padding_is_never_the_end_of_a_text(tmp_path: Path) -> None:
    """With padding = EOS, as many tokenizers have it, transformers would read the score one token early."""
    model = make_model(tmp_path / "m")
    export = write_export(tmp_path / "e", train=toy_pairs(32), validation=toy_pairs(8, seed=7))
    assert AutoTokenizer.from_pretrained(model).pad_token_id == AutoTokenizer.from_pretrained(model).eos_token_id
    out = tmp_path / "out"
    result = train("reward", export, model, out, TrainConfig(epochs=1, **QUICK))
    scorer, tokenizer = AutoModelForSequenceClassification.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    texts = [r["prompt"] + r["chosen"] + tokenizer.eos_token for r in toy_pairs(8, seed=7)]
    with torch.no_grad():
        got = scorer(**tokenizer(texts, return_tensors="pt", padding=True)).logits.mean().item()
    assert got == pytest.approx(result.metrics["chosen_reward"], abs=1e-5)


def test_reward_on_whole_texts(plain_model: Path, tmp_path: Path) -> None:
    """The rm export's shape: no prompt column, and no boundary needed."""
    rows = {
        split: [{"chosen": r["prompt"] + r["chosen"], "rejected": r["prompt"] + r["rejected"]} for r in toy_pairs(n, seed=n)]
        for split, n in (("train", 48), ("validation", 16))
    }
    apart = {split: toy_pairs(n, seed=n) for split, n in (("train", 48), ("validation", 16))}
    config = TrainConfig(epochs=2, **QUICK)
    whole = train("reward", write_export(tmp_path / "w", **rows), plain_model, tmp_path / "whole", config)
    split = train("reward", write_export(tmp_path / "s", **apart), plain_model, tmp_path / "split", config)
    assert whole.metrics["accuracy"] == 1.0
    assert whole.start["loss"] == pytest.approx(split.start["loss"], abs=1e-3)


def test_margin_and_soft_labels_change_the_reward_loss(plain_model: Path, tmp_path: Path) -> None:
    """Three exports that differ in one column start at three losses, each as the formula says."""
    losses = {}
    for name, more in {"hard": {}, "margin": {"margin": 2.0}, "soft": {"p": 0.5}}.items():
        export = write_export(tmp_path / name, train=[{**r, **more} for r in toy_pairs(16)])
        config = TrainConfig(max_steps=1, use=tuple(more), **QUICK)
        losses[name] = train("reward", export, plain_model, tmp_path / f"{name}-out", config).metrics
    gap = losses["hard"]["margin"]
    assert losses["margin"]["loss"] == pytest.approx(math.log1p(math.exp(2 - gap)), abs=2e-3)
    assert losses["soft"]["loss"] == pytest.approx((losses["hard"]["loss"] + math.log1p(math.exp(gap))) / 2, abs=2e-3)


def test_weight_zero_is_as_if_the_pair_were_not_there(plain_model: Path, tmp_path: Path) -> None:
    """Weights multiply the loss; the mean is over all rows, so half the rows at weight 2 are the half alone."""
    rows = toy_pairs(16)
    weighted = write_export(tmp_path / "w", train=[{**r, "weight": 2.0 * (i % 2)} for i, r in enumerate(rows)])
    half = write_export(tmp_path / "h", train=rows[1::2])
    train("dpo", weighted, plain_model, tmp_path / "a", TrainConfig(epochs=3, **QUICK))
    train("dpo", half, plain_model, tmp_path / "b", TrainConfig(epochs=3, **QUICK))
    assert difference(tmp_path / "a", tmp_path / "b") < 1e-4


def test_lora_trains_an_adapter(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = train("dpo", toy, plain_model, out, TrainConfig(epochs=3, lora=4, **{**QUICK, "lr": 2e-2}))
    assert result.start["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert result.metrics["accuracy"] == 1.0
    assert (out / "adapter_model.safetensors").exists()
    assert not (out / "model.safetensors").exists()
    assert AutoModelForCausalLM.from_pretrained(out) is not None


def test_lora_reward_keeps_its_head(chat_model: Path, toy_chat: Path, tmp_path: Path) -> None:
    """The score head is trained in full beside the adapter, saved with it, and scores as trained."""
    out = tmp_path / "out"
    config = TrainConfig(epochs=3, lora=4, **{**QUICK, "lr": 2e-2})
    result = train("reward", toy_chat, chat_model, out, config)
    assert result.metrics["accuracy"] == 1.0
    scorer = AutoModelForSequenceClassification.from_pretrained(chat_model, num_labels=1)
    scorer = PeftModel.from_pretrained(scorer, out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    talks = [[*r["prompt"], *r["chosen"]] for r in as_chat(toy_pairs(24, seed=7, offset=1000))]
    inputs = [tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True) for talk in talks]
    with torch.no_grad():
        mean = sum(scorer(**one).logits.item() for one in inputs) / len(inputs)
    assert mean == pytest.approx(result.metrics["chosen_reward"], abs=1e-4)


# What must not change the result


def test_accumulation_changes_nothing(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """1 x 8 = 8 x 1 = 3 + 3 + 2, for a loss with terms per token and lengths that differ."""
    for micro in (8, 1, 3):
        train("cpo", toy, plain_model, tmp_path / str(micro), TrainConfig(max_steps=6, **{**QUICK, "batch_size": 8}, micro_batch=micro))
    for micro in (1, 3):
        assert difference(tmp_path / "8", tmp_path / str(micro)) < 2e-5
        for a, b in zip(log_of(tmp_path / "8"), log_of(tmp_path / str(micro)), strict=True):
            assert a["loss"] == pytest.approx(b["loss"], abs=2e-5)
            assert a["margin"] == pytest.approx(b["margin"], abs=2e-4)


def test_packed_equals_unpacked(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    """The same run with the prompt computed once and twice per pair; and gradient checkpointing on top."""
    base = {**QUICK, "max_steps": 6}
    train("dpo", toy, plain_model, tmp_path / "packed", TrainConfig(**base))
    train("dpo", toy, plain_model, tmp_path / "apart", TrainConfig(**base, share_prefix=False))
    train("dpo", toy, plain_model, tmp_path / "again", TrainConfig(**base, gradient_checkpointing=True))
    assert log_of(tmp_path / "packed")[0]["tokens"] < log_of(tmp_path / "apart")[0]["tokens"]
    assert difference(tmp_path / "packed", tmp_path / "apart") < 1e-4
    assert difference(tmp_path / "packed", tmp_path / "again") < 1e-6
    for a, b in zip(log_of(tmp_path / "packed"), log_of(tmp_path / "apart"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)


def test_same_seed_same_run(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("dpo", toy, plain_model, tmp_path / name, TrainConfig(max_steps=4, seed=seed, **QUICK))
    assert difference(tmp_path / "a", tmp_path / "b") == 0
    assert difference(tmp_path / "a", tmp_path / "c") > 0


def test_metrics_do_not_depend_on_batching(plain_model: Path, tmp_path: Path) -> None:
    """Five held-out rows measured five at a time and one at a time (TRL: 0.0419 and 0.0150)."""
    export = write_export(tmp_path / "e", train=toy_pairs(16), validation=toy_pairs(5, seed=7))
    got = [
        train("dpo", export, plain_model, tmp_path / str(micro), TrainConfig(max_steps=4, micro_batch=micro, **QUICK)).metrics
        for micro in (8, 1)
    ]
    assert got[0]["margin"] == pytest.approx(got[1]["margin"], abs=1e-5)
    assert got[0]["loss"] == pytest.approx(got[1]["loss"], abs=1e-5)


# Reference


def test_reference_from_the_export_is_used_and_checked(plain_model: Path, tmp_path: Path) -> None:
    """Sums that the model's own pass gave train the same model; foreign sums are used, and said to be foreign."""
    rows = toy_pairs(16)
    plain = write_export(tmp_path / "plain", train=rows)
    train("dpo", plain, plain_model, tmp_path / "computed", TrainConfig(max_steps=3, **QUICK))
    sums = reference_sums(tmp_path / "computed")
    brought = [{**r, "ref_logp_chosen": sums[i][0], "ref_logp_rejected": sums[i][1]} for i, r in enumerate(rows)]
    good = train("dpo", write_export(tmp_path / "b", train=brought), plain_model, tmp_path / "brought", TrainConfig(max_steps=3, **QUICK))
    assert difference(tmp_path / "computed", tmp_path / "brought") < 1e-6
    assert any("read from the export" in note for note in good.notes)
    foreign = [{**r, "ref_logp_chosen": -300.0, "ref_logp_rejected": -300.0} for r in rows]
    off = train("dpo", write_export(tmp_path / "f", train=foreign), plain_model, tmp_path / "foreign", TrainConfig(max_steps=1, **QUICK))
    assert any("differ from the starting model" in note for note in off.notes)
    assert abs(off.start["loss"] - math.log(2)) > 0.01


def reference_sums(out: Path) -> list[tuple[float, float]]:
    """Chosen and rejected sums by row, from the run's cache, in row order."""
    (file,) = (out / "reference").glob("*.npz")
    with np.load(file) as data:
        parts = np.split(data["values"], data["ends"][:-1])
        keys = [bytes(k) for k in data["keys"]]
    by_key = {k: float(v.sum(dtype=np.float64)) for k, v in zip(keys, parts, strict=True)}
    from prefdata.models.packing_tokens import Encoder
    from prefdata.train.data import Limit, load_rows
    from prefdata.train.reference import sequence_key

    encoder = Encoder.make(AutoTokenizer.from_pretrained(out), chat=False, whole_turn=False)
    frame = load_export(json.loads((out / "training.json").read_text())["export"]).splits["train"]
    rows = load_rows(frame, "train", encoder, Limit(None, "refuse", None), set()).rows
    return [tuple(by_key[sequence_key(r.prompt, y)] for y in r.responses) for r in rows]  # type: ignore[misc]


def test_reference_cache_is_shared_by_runs_and_keyed_by_weights(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def phases(objective: str, model: Path, out: str, **more: Any) -> list[Event]:
        seen: list[Event] = []
        train(objective, toy, model, tmp_path / out, TrainConfig(max_steps=1, cache_dir=cache, **{**QUICK, **more}), seen.append)
        return [e for e in seen if e.text == "reference log-probs"]

    assert phases("dpo", plain_model, "a")
    assert not phases("ipo", plain_model, "b", params={"beta": 0.5}), "another loss and beta: nothing to compute"
    assert not phases("dpo", plain_model, "c", batch_size=4, micro_batch=2)
    other = make_model(tmp_path / "other", seed=5)
    assert phases("dpo", other, "d"), "other weights: everything is computed"
    assert len(list(cache.glob("*.npz"))) == 2
    assert phases("dpo", plain_model, "e", max_length=30, truncation="keep_start"), "other token ids: the cut rows are computed"
    (first, _) = sorted(cache.glob("*.npz"))
    first.write_bytes(b"broken")
    assert Cache(cache, first.stem.removeprefix("logps-")).values == {}


def test_no_reference_pass_where_none_is_needed(plain_model: Path, tmp_path: Path) -> None:
    export = write_export(tmp_path / "e", train=toy_pairs(16))
    seen: list[Event] = []
    train("simpo", export, plain_model, tmp_path / "out", TrainConfig(max_steps=1, **QUICK), seen.append)
    assert not any(e.text == "reference log-probs" for e in seen)
    assert log_of(tmp_path / "out")[0]["chosen_shift"] is None


# What is left behind


@pytest.mark.usefixtures("real_picture")
def test_the_finished_folder(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = train("dpo", toy, plain_model, out, TrainConfig(epochs=2, eval_every=4, log_every=2, **QUICK))
    assert not (out / "checkpoints").exists()
    assert [line["step"] for line in log_of(out, "validation")] == [0, 4, 8]
    assert [line["step"] for line in log_of(out, "train")] == [2, 4, 6, 8]
    for line in log_of(out, "train"):
        assert {"loss", "margin", "accuracy", "chosen_logp", "rejected_logp", "chosen_shift", "lr", "tokens_per_s", "rows"} <= line.keys()
    summary = json.loads((out / "training.json").read_text())
    assert summary["export_fingerprint"] == load_export(toy).fingerprint
    assert summary["manifest_sha256"]
    assert summary["params"] == {"beta": 0.1, "label_smoothing": 0.0}
    assert summary["versions"]["torch"] == torch.__version__
    assert (out / "training.png").read_bytes()[:4] == b"\x89PNG"
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    for part in ("64 pairs", "arXiv:2305.18290", summary["export_fingerprint"], f"{result.metrics['loss']:.4f}"):
        assert part in card
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    inputs = tokenizer("Tell me about", return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


def test_half_precision_model_comes_back_in_its_format(tmp_path: Path, toy: Path) -> None:
    model = make_model(tmp_path / "m")
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(model)
    result = train("dpo", toy, model, tmp_path / "out", TrainConfig(epochs=1, dtype="bfloat16", **QUICK))
    assert {t.dtype for t in weights_of(tmp_path / "out").values()} == {torch.bfloat16}
    assert result.start["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert result.metrics["loss"] < 0.68


def test_drops_are_counted_and_said(plain_model: Path, tmp_path: Path) -> None:
    rows = toy_pairs(20)
    rows[3]["chosen"] *= 30
    rows[4]["chosen"] = rows[4]["rejected"]
    notes: list[str] = []
    export = write_export(tmp_path / "e", train=rows)
    config = TrainConfig(max_steps=1, **QUICK)
    result = train("dpo", export, plain_model, tmp_path / "out", config, lambda e: notes.append(e.text) if e.kind == "note" else None)
    assert result.dropped == {"too_long": 1, "identical": 1}
    assert any("1 too_long (prompt plus response exceed the length limit)" in n and "limit 128" in n for n in notes)
    assert notes == list(result.notes)


@pytest.mark.usefixtures("real_picture")
def test_nothing_is_printed(plain_model: Path, toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(max_steps=1, **QUICK))
    train("reward", toy, plain_model, tmp_path / "rm", TrainConfig(max_steps=1, **QUICK))
    assert capfd.readouterr() == ("", "")


def test_held_out_and_fraction_of_an_epoch(plain_model: Path, toy: Path, tmp_path: Path) -> None:
    result = train("dpo", toy, plain_model, tmp_path / "out", TrainConfig(epochs=0.5, **QUICK))
    assert result.steps == 2
