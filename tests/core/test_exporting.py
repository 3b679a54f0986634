"""Exports: deterministic, split without leakage, with manifest and card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from datasets import load_dataset

from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch, ingest
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store


def fill(store: Store, n: int = 60) -> None:
    frame = pl.DataFrame(
        {
            "line": range(n),
            "prompt": [f"  What is {i // 2}?" if i % 4 else f"what is {i // 2}?" for i in range(n)],
            "response_a": [f"It is {i}, of course; café\n{'x' * (i % 9)}" for i in range(n)],
            "response_b": [f"No idea {i}" for i in range(n)],
            "label": ["a" if i % 3 else "tie" for i in range(n)],
            "source": ["s"] * n,
            "item_id": [str(i) for i in range(n)],
        }
    )
    ingest(store, [Batch("pairs", frame)])


def export(store: Store, out: Path, method: str = "dpo", seed: int = 0, **params: Any) -> Any:
    steps = [{"aggregate": "majority"}, {"export": {method: {"out": str(out), "test": 0.3, **params}}}]
    return execute(store, parse({"steps": steps, "seed": seed})).steps[-1]


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_same_store_recipe_seed_same_bytes(tmp_path: Path, format: str) -> None:
    for name in ("one", "two"):
        store = Store(tmp_path / f"{name}.duckdb")
        fill(store)
        export(store, tmp_path / name, format=format, shard_rows=15)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    export(store, tmp_path / "three", format=format, shard_rows=15, seed=1)
    assert digests(tmp_path / "three") != digests(tmp_path / "one")


def test_splits_never_part_a_prompt_or_its_twin_and_stay_when_data_grows(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    fill(store, 40)
    export(store, tmp_path / "small")
    fill(store, 60)
    export(store, tmp_path / "large")

    def split_of(folder: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        for split in ("train", "test"):
            for prompt in pl.read_parquet(folder / "data" / f"{split}-*.parquet")["prompt"]:
                assert found.setdefault(prompt.strip().lower(), split) == split
        return found

    small, large = split_of(tmp_path / "small"), split_of(tmp_path / "large")
    assert set(small.values()) == {"train", "test"}
    assert small.items() <= large.items()


def test_loads_with_datasets_and_manifest_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    fill(store)
    step = export(store, tmp_path / "out", shard_rows=10)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {k: v for k, v in digests(tmp_path / "out").items() if k != "manifest.json"} == manifest["files"]
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == manifest["counts"]
    assert sum(manifest["counts"].values()) == step.done == 40
    assert step.detail["no_winner"] == 20
    assert set(loaded["train"].column_names) == {"prompt", "chosen", "rejected", "pair_id", "source", "margin", "p", "votes"}
    assert all(text.startswith("It is") for text in loaded["train"]["chosen"])
    card = (tmp_path / "out" / "README.md").read_text()
    for words in ("license: other", "split: train", "aggregate/majority@1", "not recorded"):
        assert words in card


def test_a_second_export_computes_nothing_and_a_damaged_one_is_rewritten(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    fill(store)
    assert export(store, tmp_path / "out").done == 40
    before = digests(tmp_path / "out")
    assert export(store, tmp_path / "out").done == 0
    (tmp_path / "out" / "data" / "train-00000-of-00001.parquet").write_bytes(b"damaged")
    assert export(store, tmp_path / "out").done == 40
    assert digests(tmp_path / "out") == before


def test_chat_prompts_export_as_messages(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    from prefdata.core import ids

    frame = pl.DataFrame(
        {
            "messages": [json.dumps(messages)],
            "canonical": [ids.canonical_messages(messages)],
            "response_a": ["x"],
            "response_b": ["y"],
            "label": ["b"],
        }
    )
    ingest(store, [Batch("pairs", frame)])
    export(store, tmp_path / "out", test=0)
    row = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet").row(0, named=True)
    assert row["prompt"] == messages
    assert row["chosen"] == [{"role": "assistant", "content": "y"}]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"format": "xlsx"}, "parquet, jsonl"),
        ({"test": 1.5}, "a share"),
        ({"test": 0.6, "validation": 0.5}, "below 1"),
        ({"shard_rows": 0}, "at least 1"),
    ],
)
def test_wrong_options(tmp_path: Path, params: dict[str, Any], words: str) -> None:
    store = Store(tmp_path / "s.duckdb")
    fill(store, 4)
    with pytest.raises(PrefdataError, match=words):
        export(store, tmp_path / "out", **params)


def test_a_folder_that_is_no_export_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    fill(store, 4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(PrefdataError, match="no export of prefdata"):
        export(store, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()
