"""Merges: golden values, what must be refused, folders that load, adapters folded in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from train_toys import make_model, toy_pairs, write_export
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from prefdata.cli import merge as command
from prefdata.core.errors import PrefdataError
from prefdata.models.fingerprint import fingerprint
from prefdata.train import TrainConfig, merge, train
from prefdata.train.merging import methods

GOLDEN = Path(__file__).parent.parent / "golden" / "merges"
METHODS = list(methods())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


@pytest.fixture(scope="module")
def tuned(plain_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two trainings from one base, on labels and on swapped labels, and an adapter."""
    folder = tmp_path_factory.mktemp("tuned")
    rows = toy_pairs(16)
    swapped = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows]
    config = {"max_steps": 2, "batch_size": 8, "lr": 3e-3, "device": "cpu"}
    for name, given, more in (("tuned", rows, {}), ("swapped", swapped, {}), ("adapter", rows, {"lora": 2, "lr": 2e-2})):
        export = write_export(folder / f"e-{name}", train=given)
        train("dpo", export, plain_model, folder / name, TrainConfig(**{**config, **more}))
    return {"base": plain_model, "sft": plain_model, **{name: folder / name for name in ("tuned", "swapped", "adapter")}}


@pytest.mark.parametrize("name", METHODS)
def test_golden(name: str) -> None:
    method = methods()[name]
    for case in json.loads((GOLDEN / f"{name}.json").read_text())["examples"]:
        given = [torch.tensor(case["models"][role], dtype=torch.float64) for role in method.handed]
        got = method.load()(*given, **method.bind(case["params"]))
        assert got.tolist() == pytest.approx(case["want"], abs=1e-9), case["how"]


def test_no_golden_file_without_a_method() -> None:
    assert {p.stem for p in GOLDEN.glob("*.json")} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_shapes_and_documentation(name: str) -> None:
    method = methods()[name]
    given = [torch.randn(3, 4, generator=torch.Generator().manual_seed(i)) for i in range(len(method.handed))]
    assert method.load()(*given, **method.bind({})).shape == (3, 4)
    zero = [torch.zeros(3) for _ in method.handed]
    assert torch.isfinite(method.load()(*zero, **method.bind({}))).all()
    assert method.header["paper"]
    assert all(param.doc for param in method.params.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_merged_folder_loads(name: str, tuned: dict[str, Path], tmp_path: Path) -> None:
    """Every weight is what the method makes of the others', in the format of the last model; files beside them come along."""
    method, out = methods()[name], tmp_path / "out"
    result = merge(name, {role: tuned[role] for role in method.handed}, out)
    parts, got = [weights(tuned[role]) for role in method.handed], weights(out)
    assert got.keys() == parts[-1].keys()
    for key, value in got.items():
        assert torch.allclose(value, method.load()(*(part[key] for part in parts), **method.bind({})), atol=1e-6), key
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model(**tokenizer("Tell me", return_tensors="pt")).logits.isfinite().all()
    facts = json.loads((out / "merge.json").read_text())
    assert facts["models"][method.handed[0]]["fingerprint"] == fingerprint(tuned[method.handed[0]])
    assert facts["distance_from_first"] == result.norms
    assert result.norms["merged"] > 0
    assert not {"training.json", "metrics.jsonl", "reference", "training.png"} & {p.name for p in out.iterdir()}
    assert method.header["paper"] in (out / "README.md").read_text()


def test_extrapolation_goes_on_in_the_same_direction(tuned: dict[str, Path], tmp_path: Path) -> None:
    norms = merge("expo", {"sft": tuned["sft"], "tuned": tuned["tuned"]}, tmp_path / "out", {"alpha": 0.5}).norms
    assert norms["merged"] == pytest.approx(1.5 * norms["tuned"], rel=1e-4)


def test_an_adapter_is_folded_in(tuned: dict[str, Path], tmp_path: Path) -> None:
    """Extrapolating an adapter equals extrapolating the model that it makes of its base."""
    from peft import AutoPeftModelForCausalLM

    whole = tmp_path / "whole"
    AutoPeftModelForCausalLM.from_pretrained(tuned["adapter"]).merge_and_unload().save_pretrained(whole)
    AutoTokenizer.from_pretrained(tuned["adapter"]).save_pretrained(whole)
    merge("expo", {"sft": tuned["sft"], "tuned": whole}, tmp_path / "a")
    merge("expo", {"sft": tuned["sft"], "tuned": tuned["adapter"]}, tmp_path / "b")
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "b") is not None


def test_an_adapter_on_tied_weights(chat_model: Path, toy_chat: Path, tmp_path: Path) -> None:
    train("dpo", toy_chat, chat_model, tmp_path / "adapter", TrainConfig(max_steps=1, lora=2, device="cpu"))
    merge("expo", {"sft": chat_model, "tuned": tmp_path / "adapter"}, tmp_path / "out")
    assert weights(tmp_path / "out").keys() == weights(chat_model).keys()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out") is not None


def test_shards_are_read(tuned: dict[str, Path], tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(tuned["tuned"]).save_pretrained(sharded, max_shard_size="40KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    merge("expo", {"sft": tuned["sft"], "tuned": sharded}, tmp_path / "a")
    merge("expo", {"sft": tuned["sft"], "tuned": tuned["tuned"]}, tmp_path / "b")
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_half_precision_stays(tuned: dict[str, Path], tmp_path: Path) -> None:
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tuned["tuned"], dtype=torch.bfloat16).save_pretrained(half)
    merge("expo", {"sft": tuned["sft"], "tuned": half}, tmp_path / "out")
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.bfloat16}


# What is refused


def refused(says: str, name: str, models: dict[str, Any], out: Path, **params: Any) -> None:
    with pytest.raises(PrefdataError, match=says):
        merge(name, models, out, params)


def test_what_cannot_be_merged_is_said(tuned: dict[str, Path], tmp_path: Path) -> None:
    out, both = tmp_path / "out", {"sft": tuned["sft"], "tuned": tuned["tuned"]}
    refused("unknown merge 'expoo'. Did you mean 'expo'", "expoo", both, out)
    refused("unknown role 'dpo' of expo.*Known: sft, tuned", "expo", {**both, "dpo": tuned["tuned"]}, out)
    refused("expo combines sft, tuned and got no tuned", "expo", {"sft": tuned["sft"]}, out)
    refused("alpha is 0.0; allowed: a number above 0", "expo", both, out, alpha=0.0)
    refused("density is 0.0", "paft", {**both, "base": tuned["base"]}, out, density=0.0)
    refused("there is no model folder", "expo", {**both, "tuned": tmp_path / "none"}, out)
    other = make_model(tmp_path / "other", hidden_size=16)
    refused("differ in shape, .*the models must come from one base", "expo", {**both, "sft": other}, out)
    more = make_model(tmp_path / "more", num_hidden_layers=3)
    refused("sft .* has no weight .*layers.2", "expo", {"sft": tuned["sft"], "tuned": more}, out)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    refused("is not empty", "expo", both, out)
    assert (out / "mine.txt").read_text() == "keep"


def test_broken_weights_are_named(tuned: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tuned["tuned"], broken)
    (broken / "model.safetensors").write_bytes(b"no")
    refused("cannot be read", "expo", {"sft": tuned["sft"], "tuned": broken}, tmp_path / "out")
    (broken / "model.safetensors").unlink()
    refused("holds no .safetensors file", "expo", {"sft": tuned["sft"], "tuned": broken}, tmp_path / "out")


def test_weights_that_are_no_fractions_are_kept(tuned: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "counted"
    shutil.copytree(tuned["tuned"], folder)
    save_file(
        {**load_file(folder / "model.safetensors"), "steps": torch.tensor([7])}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    base = tmp_path / "base"
    shutil.copytree(tuned["sft"], base)
    save_file({**load_file(base / "model.safetensors"), "steps": torch.tensor([3])}, base / "model.safetensors", metadata={"format": "pt"})
    merge("expo", {"sft": base, "tuned": folder}, tmp_path / "out")
    assert weights(tmp_path / "out")["steps"].tolist() == [7]


# The command

app = typer.Typer()
app.command("merge")(command.merge)
app.command("other", hidden=True)(lambda: None)


def test_the_command(tuned: dict[str, Path], tmp_path: Path) -> None:
    models = [f"--model=sft={tuned['sft']}", f"--model=tuned={tuned['tuned']}"]
    got = CliRunner().invoke(app, ["merge", "expo", *models, "--out", str(tmp_path / "a"), "--set", "alpha=0.5"])
    assert got.exit_code == 0, got.output
    assert f"weights merged by expo: {tmp_path / 'a'}" in got.stdout
    assert json.loads((tmp_path / "a" / "merge.json").read_text())["params"] == {"alpha": 0.5}
    got = CliRunner().invoke(app, ["merge", "expo", *models, "--out", str(tmp_path / "b"), "--json"])
    assert json.loads(got.stdout)["norms"]["merged"] > 0
    bad = CliRunner().invoke(app, ["merge", "expo", "--model", "sft", "--out", str(tmp_path / "c")])
    assert isinstance(bad.exception, PrefdataError)
    assert "is not ROLE=MODEL" in str(bad.exception)
