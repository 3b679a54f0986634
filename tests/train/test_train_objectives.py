"""Runs of every objective that is more than a function of a pair: what may not change their result, what they leave behind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
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
from prefdata.core.errors import PrefdataError, Stopped
from prefdata.train import Event, TrainConfig, train

QUICK: dict[str, Any] = {"batch_size": 8, "lr": 1e-3, "device": "cpu"}
SPECIAL = ("kto", "bco", "npo", "plackett_luce", "pro", "rationale", "ld_dpo", "token_weights", "dove", "todo", "dpo + 0.3*rationale")
HEADS = sorted(shelf_methods("heads"))
PARAMS: dict[str, dict[str, Any]] = {"regression": {"attributes": ["good", "long"]}, "general_preference": {"dimension": 4}}


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def rows_of(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    rows = rows_for(name.rpartition("*")[2], count, seed, 1000 * seed)
    return [{**r, "tie": i % 3 == 0} for i, r in enumerate(rows)] if name == "todo" else rows


def export_for(folder: Path, name: str, train_rows: int = 24, held_out: int = 8) -> Path:
    return write_export(folder, train=rows_of(name, train_rows), validation=rows_of(name, held_out, seed=7))


def use(name: str) -> tuple[str, ...]:
    return ("tie",) if name == "todo" else ()


def same_path(one: Path, other: Path, tolerance: float) -> None:
    """The same losses and figures, line by line."""
    for a, b in zip(log_of(one), log_of(other), strict=True):
        for key in ("loss", "margin", "accuracy", "ordered", "chosen_shift"):
            if a.get(key) is not None:
                assert a[key] == pytest.approx(b[key], abs=tolerance, rel=tolerance), (a["step"], a["split"], key)


# What must not change the result


@pytest.mark.parametrize("name", SPECIAL)
def test_batching_and_packing_change_nothing(name: str, plain_model: Path, tmp_path: Path) -> None:
    """1 x 8 = 8 x 1 = 3 + 3 + 2 with the prompt computed once or for each response: lists of two and three side by side,
    single responses with a mismatched one each, rationales behind prompts of their own."""
    rows = rows_of(name, 24)
    if name in ("plackett_luce", "pro"):
        rows[3::4] = [{**r, "responses": r["responses"][:2], "scores": r["scores"][:2]} for r in rows[3::4]]
    export = write_export(tmp_path / "e", train=rows, validation=rows_of(name, 5, seed=7))
    base: dict[str, Any] = {**QUICK, "max_steps": 4, "use": use(name)}
    for out, more in {"8": {"micro_batch": 8}, "1": {"micro_batch": 1}, "3": {"micro_batch": 3, "share_prefix": False}}.items():
        train(name, export, plain_model, tmp_path / out, TrainConfig(**base, **more))
    assert len({line["loss"] for line in log_of(tmp_path / "8")}) > 3
    same_path(tmp_path / "8", tmp_path / "1", 1e-4)
    same_path(tmp_path / "8", tmp_path / "3", 1e-4)


def stop_at(step: int) -> tuple[Callable[[Event], None], Callable[[], bool]]:
    seen = [0]

    def watch(event: Event) -> None:
        seen[0] = event.done if event.kind == "step" else seen[0]

    return watch, lambda: seen[0] >= step


@pytest.mark.parametrize(
    ("name", "frozen"), [("bco", None), ("kto", None), ("mixture", None), ("lore", None), ("ensemble", "layers"), ("mixture", "layers")]
)
@pytest.mark.parametrize("at", [2, 3])
def test_stop_and_go_on(name: str, frozen: Any, at: int, plain_model: Path, tmp_path: Path) -> None:
    """What an objective remembers is in the checkpoint: weights bit for bit, figures line for line, over the end of an epoch."""
    export = export_for(tmp_path / "e", name, 12 if name in ("bco", "kto") else 24)
    config: dict[str, Any] = {**QUICK, "max_steps": 7, "save_every": 2, "frozen": frozen}
    train(name, export, plain_model, tmp_path / "whole", TrainConfig(**config))
    watch, stop = stop_at(at)
    with pytest.raises(Stopped):
        train(name, export, plain_model, tmp_path / "out", TrainConfig(**config), watch, stop)
    train(name, export, plain_model, tmp_path / "out", TrainConfig(**config, resume=True))
    file = "head.safetensors" if frozen else "model.safetensors"
    one, other = load_file(tmp_path / "whole" / file), load_file(tmp_path / "out" / file)
    assert all(torch.equal(one[k], other[k]) for k in one)
    times = ("seconds", "tokens_per_s")
    logs = [[{k: v for k, v in line.items() if k not in times} for line in log_of(tmp_path / place)] for place in ("whole", "out")]
    assert logs[0] == logs[1]
    if name in ("mixture", "lore"):
        assert (tmp_path / "whole" / "people.json").read_text() == (tmp_path / "out" / "people.json").read_text()


# What the losses say, against a second computation


def sums(model: Any, tokenizer: Any, prompt: str, response: str) -> float:
    """Summed log-prob of a response and its end, one sequence at a time."""
    head, tail = tokenizer(prompt)["input_ids"], tokenizer(response, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    ids = torch.tensor([head + tail])
    with torch.no_grad():
        logps = torch.log_softmax(model(ids).logits[0, :-1], -1)
    return float(logps.gather(1, ids[0, 1:, None])[len(head) - 1 :].sum())


@pytest.fixture(scope="module")
def drifted(plain_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has left its reference."""
    folder = tmp_path_factory.mktemp("drifted")
    export = write_export(folder / "e", train=toy_pairs(32))
    train("dpo", export, plain_model, folder / "out", TrainConfig(epochs=2, **{**QUICK, "lr": 3e-3}))
    return folder / "out"


def first_loss(name: str, export: Path, model: Path, reference: Path, out: Path, **more: Any) -> float:
    """Loss of the first step, the reference being another model's: its cache is filled by a run of its own."""
    config = TrainConfig(**{**QUICK, "max_steps": 1, "order": "as_given", "cache_dir": out / "cache", **more})
    train(name, export, reference, out / "ref", config)
    (theirs,) = (out / "cache").glob("logps-*.npz")
    kept = theirs.read_bytes()
    train(name, export, model, out / "own", config)
    own = next(file for file in (out / "cache").glob("logps-*.npz") if file != theirs)
    own.write_bytes(kept)
    result = train(name, export, model, out / "run", config)
    loss = log_of(out / "run")[0]["loss"]
    assert result.steps == 1
    return float(loss)


def test_kto_by_hand(plain_model: Path, drifted: Path, tmp_path: Path) -> None:
    """One batch: log-ratios one by one, the drift from each prompt with the response of the row before."""
    rows = [
        {"prompt": r["prompt"], "completion": r["chosen" if i % 2 else "rejected"], "label": bool(i % 2)}
        for i, r in enumerate(toy_pairs(6))
    ]
    export = write_export(tmp_path / "e", train=rows)
    got = first_loss("kto", export, drifted, plain_model, tmp_path, batch_size=6)
    tokenizer = AutoTokenizer.from_pretrained(plain_model)
    policy, reference = (AutoModelForCausalLM.from_pretrained(m).eval() for m in (drifted, plain_model))

    def ratio(prompt: str, response: str) -> float:
        return sums(policy, tokenizer, prompt, response) - sums(reference, tokenizer, prompt, response)

    u = [ratio(r["prompt"], r["completion"]) for r in rows]
    kl = max(0.0, float(np.mean([ratio(r["prompt"], rows[i - 1]["completion"]) for i, r in enumerate(rows)])))
    sigmoid = [1 / (1 + math.exp(-0.1 * (x - kl if r["label"] else kl - x))) for x, r in zip(u, rows, strict=True)]
    assert got == pytest.approx(float(np.mean([1 - s for s in sigmoid])), abs=1e-5)
    assert abs(got - 0.5) > 0.01


def test_ld_dpo_and_token_weights_by_hand(plain_model: Path, drifted: Path, tmp_path: Path) -> None:
    """Cut at the shorter response (alpha = 0) it is DPO on cut responses; weight 1 everywhere it is DPO."""
    rows = toy_pairs(6)
    export = write_export(tmp_path / "e", train=rows)
    dpo = first_loss("dpo", export, drifted, plain_model, tmp_path / "dpo")
    assert first_loss("ld_dpo", export, drifted, plain_model, tmp_path / "ld1", params={"alpha": 1.0}) == pytest.approx(dpo, abs=1e-5)
    marked = [{**r, **{f"{s}_spans": [{"start": 0, "end": len(r[s]), "weight": 1.0}] for s in ("chosen", "rejected")}} for r in rows]
    weighted = write_export(tmp_path / "w", train=marked)
    got = first_loss("token_weights", weighted, drifted, plain_model, tmp_path / "tw", params={"rest": 1.0})
    assert got == pytest.approx(dpo, abs=1e-5)
    tail = first_loss("ld_dpo", export, drifted, plain_model, tmp_path / "ld0", params={"alpha": 0.0})
    assert abs(tail - dpo) > 1e-3


def test_dove_on_one_prompt_is_dpo(plain_model: Path, drifted: Path, tmp_path: Path) -> None:
    rows = toy_pairs(6)
    joint = write_export(tmp_path / "j", train=[{**r, "rejected_prompt": r["prompt"]} for r in rows])
    dpo = first_loss("dpo", write_export(tmp_path / "e", train=rows), drifted, plain_model, tmp_path / "dpo")
    assert first_loss("dove", joint, drifted, plain_model, tmp_path / "dove") == pytest.approx(dpo, abs=1e-5)


def test_bco_moves_its_shift(plain_model: Path, tmp_path: Path) -> None:
    """After the first step the rewards have a mean, and the loss of equal rows changes with it."""
    export = export_for(tmp_path / "e", "bco", 12)
    train("bco", export, plain_model, tmp_path / "out", TrainConfig(**{**QUICK, "max_steps": 3, "save_every": 1, "lr": 5e-3}))
    first = log_of(tmp_path / "out")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    watch, stop = stop_at(2)
    with pytest.raises(Stopped):
        train(
            "bco", export, plain_model, tmp_path / "cut", TrainConfig(**{**QUICK, "max_steps": 3, "save_every": 1, "lr": 5e-3}), watch, stop
        )
    state = torch.load(tmp_path / "cut" / "checkpoints" / "step-000002" / "state.pt", weights_only=True)
    rewards = state["memory"]["rewards"]
    assert rewards[:, 1].sum() == 16, "two steps of eight rows"
    assert rewards[:, 0].abs().sum() > 0


def test_ties_draw_rewards_together(plain_model: Path, tmp_path: Path) -> None:
    """The same pairs as wins and as ties: as ties they end with a smaller gap, and are no part of the accuracy."""
    margins = {}
    for tie in (False, True):
        rows = [{**r, "tie": tie if i % 2 else False} for i, r in enumerate(toy_pairs(24))]
        held = [{**r, "tie": False} for r in toy_pairs(8, seed=7)]
        export = write_export(tmp_path / f"e{tie}", train=rows, validation=held)
        result = train("ties", export, plain_model, tmp_path / str(tie), TrainConfig(epochs=4, **{**QUICK, "lr": 3e-3}))
        margins[tie] = result.metrics["margin"]
    assert 0 < margins[True] < margins[False]
    export = write_export(tmp_path / "all", train=[{**r, "tie": True} for r in toy_pairs(8)])
    only = train("ties", export, plain_model, tmp_path / "only", TrainConfig(max_steps=1, **QUICK)).metrics
    assert (only["accuracy"], only["margin"]) == (None, None)


def test_reference_sums_that_do_not_do_are_not_read(plain_model: Path, tmp_path: Path) -> None:
    rows = [{**r, "ref_logp_chosen": -300.0, "ref_logp_rejected": -300.0} for r in toy_pairs(8)]
    export = write_export(tmp_path / "e", train=rows)
    result = train("ld_dpo", export, plain_model, tmp_path / "out", TrainConfig(max_steps=1, **QUICK))
    assert any("needs the reference's log-probs of more than whole responses" in note for note in result.notes)
    assert result.start["loss"] == pytest.approx(math.log(2), abs=1e-5)


# Reward heads


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("how", ["full", "lora", "layers", "embedding"])
def test_every_head_trains(name: str, how: str, plain_model: Path, encoder: Path, tmp_path: Path) -> None:
    """On all weights, an adapter, a frozen language model and a frozen sentence encoder."""
    export = export_for(tmp_path / "e", name, 32, 16)
    model = encoder if how == "embedding" else plain_model
    rate = {"full": 3e-3, "lora": 2e-2}.get(how)
    more: dict[str, Any] = {"lora": 4} if how == "lora" else {"frozen": how} if how in ("layers", "embedding") else {}
    config = TrainConfig(epochs=3, batch_size=8, device="cpu", lr=rate, params=PARAMS.get(name, {}), **more)
    result = train("reward" if name == "bradley_terry" else name, export, model, tmp_path / "out", config)
    assert result.kind == "reward"
    assert result.metrics["loss"] < result.start["loss"]
    assert result.metrics["margin"] > result.start["margin"]
    if name != "regression":
        assert result.metrics["accuracy"] >= 0.9
    card = (tmp_path / "out" / "README.md").read_text()
    assert "RewardHead" in card if "frozen" in more else "AutoModelForSequenceClassification" in card


def head_file(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "head.json").read_text())
    return found


def test_head_json_says_how_outputs_become_a_reward(plain_model: Path, tmp_path: Path) -> None:
    params = {"regression": {"attributes": ["good", "long"], "weights": [1.0, -0.25]}, "ensemble": {"members": 4}}
    found = {}
    for name in HEADS[1:]:
        config = TrainConfig(max_steps=1, params=params.get(name, {}), **QUICK)
        train(name, export_for(tmp_path / f"e-{name}", name, 8, 4), plain_model, tmp_path / name, config)
        found[name] = head_file(tmp_path / name)["readout"] if (tmp_path / name / "head.json").exists() else "scalar"
    assert found["regression"] == [1.0, -0.25]
    assert head_file(tmp_path / "regression")["outputs"] == ["good", "long"]
    assert found["ensemble"] == [0.25] * 4
    assert found["general_preference"] is None
    assert found["ties"] == "scalar"
    assert sum(found["lore"]) == pytest.approx(1)
    assert sum(found["mixture"]) == pytest.approx(1)


def test_several_outputs_score_as_trained(chat_model: Path, tmp_path: Path) -> None:
    """Loaded the usual way, the outputs in the readout's weights are the reward that training reported."""
    rows = {split: as_chat(toy_pairs(n, seed=n)) for split, n in (("train", 32), ("validation", 12))}
    export = write_export(tmp_path / "e", **rows)
    out = tmp_path / "out"
    result = train("ensemble", export, chat_model, out, TrainConfig(epochs=2, params={"members": 3}, **{**QUICK, "lr": 3e-3}))
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    talks = [[*r["prompt"], *r["chosen"]] for r in rows["validation"]]
    inputs = tokenizer.apply_chat_template(talks, return_tensors="pt", return_dict=True, padding=True)
    with torch.no_grad():
        outputs = model(**inputs).logits
    assert outputs.shape == (12, 3)
    assert float(outputs.std(1).mean()) > 1e-4, "members differ"
    reward = outputs @ torch.tensor(head_file(out)["readout"])
    assert float(reward.mean()) == pytest.approx(result.metrics["chosen_reward"], abs=1e-5)


def test_lora_keeps_all_outputs(plain_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = TrainConfig(epochs=2, lora=4, params={"dimension": 4}, batch_size=8, lr=2e-2, device="cpu")
    train("general_preference", export_for(tmp_path / "e", "general_preference"), plain_model, out, config)
    base = AutoModelForSequenceClassification.from_pretrained(plain_model, num_labels=4)
    model, tokenizer = PeftModel.from_pretrained(base, out).eval(), AutoTokenizer.from_pretrained(out)
    model.config.pad_token_id = tokenizer.pad_token_id
    right = 0
    with torch.no_grad():
        for row in toy_pairs(12, seed=9):
            w, r = (
                model(**tokenizer(row["prompt"] + row[s] + tokenizer.eos_token, return_tensors="pt")).logits[0]
                for s in ("chosen", "rejected")
            )
            right += int((w[0::2] * r[1::2] - w[1::2] * r[0::2]).sum() > 0)
    assert right >= 11


def test_regression_of_single_responses_finds_the_scores(plain_model: Path, tmp_path: Path) -> None:
    """Rated one by one, with gaps; no comparison is made up."""
    pairs = toy_pairs(32)
    rows = [
        {"prompt": r["prompt"], "completion": r[s], "good": {"chosen": 4.0, "rejected": 1.0}[s], "long": None}
        for r in pairs
        for s in ("chosen", "rejected")
    ]
    export = write_export(tmp_path / "e", train=rows, validation=rows[:16])
    config = TrainConfig(epochs=6, params={"attributes": ["good", "long"]}, **{**QUICK, "lr": 1e-2})
    result = train("regression", export, plain_model, tmp_path / "out", config)
    assert result.metrics["loss"] < 0.3
    assert result.metrics["margin"] is None
    assert result.metrics["chosen_reward"] == pytest.approx(2.5, abs=0.4)


# People


def crowd(count: int, seed: int, people: int = 6) -> list[dict[str, Any]]:
    """Half of the people like polite answers, half curt ones."""
    rows = []
    for i, row in enumerate(toy_pairs(count, seed, 1000 * seed)):
        who = i // 2 % people
        swapped = {"chosen": row["rejected"], "rejected": row["chosen"]} if who % 2 else {}
        rows.append({**row, **swapped, "annotator": f"person-{who}"})
    return rows


@pytest.mark.parametrize("frozen", [None, "layers"])
def test_types_of_people_are_found(frozen: Any, plain_model: Path, tmp_path: Path) -> None:
    """One reward for all is no better than a coin; two types explain everybody, and who is of which comes out right."""
    export = write_export(tmp_path / "e", train=crowd(96, 1), validation=crowd(36, 2))
    rate = 1e-2 if frozen else 3e-3
    config = TrainConfig(epochs=8, batch_size=16, device="cpu", lr=rate, frozen=frozen)
    one = train("reward", export, plain_model, tmp_path / "one", config)
    assert one.metrics["accuracy"] < 0.75
    for name in ("mixture", "lore"):
        params = {"types": 2} if name == "mixture" else {"bases": 2}
        steps = TrainConfig(epochs=8 if name == "mixture" else 20, batch_size=16, device="cpu", lr=rate, frozen=frozen, params=params)
        result = train(name, export, plain_model, tmp_path / name, steps)
        assert result.metrics["accuracy"] > 0.9, name
        weights = json.loads((tmp_path / name / "people.json").read_text())["people"]
        liked = {who: int(np.argmax(w)) for who, w in weights.items()}
        assert len({liked[f"person-{i}"] for i in (0, 2, 4)}) == 1
        assert liked["person-0"] != liked["person-1"]


def test_a_new_persons_weights_from_a_few_pairs(encoder: Path, tmp_path: Path) -> None:
    """With the bases held, five pairs say on which side somebody stands."""
    from prefdata.train.frozen import RewardHead
    from prefdata.train.memory import fit_taste

    export = write_export(tmp_path / "e", train=crowd(96, 1))
    config = TrainConfig(epochs=20, batch_size=16, device="cpu", frozen="layers", params={"bases": 2})
    train("lore", export, encoder, tmp_path / "out", config)
    head = RewardHead(tmp_path / "out", device="cpu")
    pairs = toy_pairs(17, seed=5)
    polite = torch.from_numpy(head.outputs([(r["prompt"], r["chosen"]) for r in pairs]))
    curt = torch.from_numpy(head.outputs([(r["prompt"], r["rejected"]) for r in pairs]))
    for gaps in (polite - curt, curt - polite):
        weights = fit_taste(gaps[:5])
        assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
        assert float(((gaps[5:] @ weights) > 0).float().mean()) > 0.9


def test_a_stranger_gets_the_mean(plain_model: Path, tmp_path: Path) -> None:
    export = write_export(tmp_path / "e", train=crowd(24, 1), validation=[{**r, "annotator": "nobody"} for r in crowd(8, 2)])
    result = train("lore", export, plain_model, tmp_path / "out", TrainConfig(epochs=2, **QUICK))
    assert math.isfinite(result.metrics["loss"])
    told = json.loads((tmp_path / "out" / "people.json").read_text())
    assert "nobody" not in told["people"]
    assert told["everybody"] == pytest.approx(np.mean(list(told["people"].values()), axis=0).tolist(), abs=1e-5)


# Frozen models


def test_frozen_needs_a_reward_and_an_encoder_needs_frozen(plain_model: Path, encoder: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match="dpo trains a policy, which cannot be frozen"):
        train("dpo", toy, plain_model, tmp_path / "a", TrainConfig(frozen="layers"))
    with pytest.raises(PrefdataError, match=r"is an encoder.*pass --frozen layers"):
        train("reward", toy, encoder, tmp_path / "b", TrainConfig())
    with pytest.raises(PrefdataError, match="lora has no effect on a frozen model"):
        train("reward", toy, plain_model, tmp_path / "c", TrainConfig(frozen="layers", lora=4))
    with pytest.raises(PrefdataError, match="frozen is 'some'; allowed: layers, embedding"):
        train("reward", toy, plain_model, tmp_path / "d", TrainConfig(frozen="some"))  # type: ignore[arg-type]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("how", ["layers", "embedding"])
@pytest.mark.parametrize("base", ["encoder", "lm"])
def test_a_frozen_head_scores_as_trained(
    base: str, how: Any, chat: bool, encoder: Path, plain_model: Path, chat_model: Path, tmp_path: Path
) -> None:
    """The folder, read back, gives texts the rewards that training reported; the base model's files are left alone."""
    from prefdata.train.frozen import RewardHead

    model = encoder if base == "encoder" else chat_model if chat else plain_model
    held = toy_pairs(8, seed=7)
    rows = {"train": as_chat(toy_pairs(24)) if chat else toy_pairs(24), "validation": as_chat(held) if chat else held}
    before = {p.name: p.stat().st_mtime_ns for p in model.iterdir()}
    out = tmp_path / "out"
    result = train(
        "reward", write_export(tmp_path / "e", **rows), model, out, TrainConfig(epochs=2, batch_size=8, frozen=how, device="cpu")
    )
    assert before == {p.name: p.stat().st_mtime_ns for p in model.iterdir()}
    head = RewardHead(out, device="cpu")
    texts = [(r["prompt"], r["chosen"].strip() if chat else r["chosen"]) for r in held]
    prompts = [r["prompt"] for r in rows["validation"]]
    got = head.rewards([(prompt, text) for prompt, (_, text) in zip(prompts, texts, strict=True)])
    assert float(got.mean()) == pytest.approx(result.metrics["chosen_reward"], abs=1e-4)
    assert not (out / "model.safetensors").exists()


def test_a_frozen_head_knows_its_model(encoder: Path, toy: Path, tmp_path: Path) -> None:
    import shutil

    from prefdata.train.frozen import RewardHead

    base = tmp_path / "base"
    shutil.copytree(encoder, base)
    train("reward", toy, base, tmp_path / "out", TrainConfig(max_steps=1, frozen="layers", device="cpu"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "changed": True}))
    with pytest.raises(PrefdataError, match="is not the one that"):
        RewardHead(tmp_path / "out")
    with pytest.raises(PrefdataError, match="holds no head on frozen embeddings"):
        RewardHead(tmp_path)


def test_a_comparing_head_gives_no_reward(encoder: Path, tmp_path: Path) -> None:
    from prefdata.train.frozen import RewardHead

    export = export_for(tmp_path / "e", "general_preference", 8, 4)
    train("general_preference", export, encoder, tmp_path / "out", TrainConfig(max_steps=1, frozen="layers", device="cpu"))
    head = RewardHead(tmp_path / "out", device="cpu")
    assert head.outputs([("p", "a"), ("p", "b")]).shape == (2, 6)
    with pytest.raises(PrefdataError, match="gives a single response no reward"):
        head.rewards([("p", "a")])
    assert head.rewards([("p", "a")], weights=[1, 0, 0, 0, 0, 0]).shape == (1,)


def test_embeddings_are_cached_by_tokens(encoder: Path, toy: Path, tmp_path: Path) -> None:
    """A second run with other settings computes none; another way to embed has its own."""
    cache = tmp_path / "cache"

    def embedded(out: str, **more: Any) -> int:
        seen: list[Event] = []
        config = TrainConfig(**{"max_steps": 1, "frozen": "layers", "cache_dir": cache, "device": "cpu", **more})
        train("reward", toy, encoder, tmp_path / out, config, seen.append)
        return sum(e.text == "embeddings" for e in seen)

    assert embedded("a") > 0
    assert embedded("b", lr=1e-3, batch_size=4) == 0
    assert embedded("c", frozen="embedding") > 0
    assert len(list(cache.glob("features-*.npz"))) == 2


def test_an_encoder_reads_no_more_than_it_can(encoder: Path, tmp_path: Path) -> None:
    rows = toy_pairs(6)
    rows[0]["chosen"] *= 20
    result = train("reward", write_export(tmp_path / "e", train=rows), encoder, tmp_path / "out", TrainConfig(max_steps=1, frozen="layers"))
    assert result.dropped == {"too_long": 1}
    cut = TrainConfig(max_steps=1, frozen="layers", truncation="keep_start")
    assert train("reward", tmp_path / "e", encoder, tmp_path / "cut", cut).dropped == {}


def test_a_model_that_only_marks_a_class_is_no_encoder(tmp_path: Path) -> None:
    """A language model whose tokenizer names a class token trains as ever."""
    model = make_model(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.cls_token = "<|im_start|>"
    tokenizer.save_pretrained(model)
    export = write_export(tmp_path / "e", train=toy_pairs(8))
    assert train("reward", export, model, tmp_path / "out", TrainConfig(max_steps=1, **QUICK)).steps == 1
