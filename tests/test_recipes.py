"""Every shipped recipe runs offline from a fresh copy; its second run computes nothing; its header says how to launch it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import prefdata
from prefdata.cli import init

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "pipelines").glob("*.yaml"))
OUTSIDE = ("openai", "sandbox")
ALONE = [
    p for p in RECIPES if not any(m["kind"] in OUTSIDE for m in yaml.safe_load(p.read_text(encoding="utf-8")).get("models", {}).values())
]
"""Recipes that need nothing from outside; test_recipes_llm.py runs the others, and holds that it runs each of them."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    init.init(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ALONE, ids=lambda p: p.stem)
def test_runs_twice(path: Path, folder: Path) -> None:
    first = prefdata.run(folder / "pipelines" / path.name, "s.duckdb")
    assert all(step.failed == 0 or step.step.startswith("source") for step in first.steps), first.steps
    exported = [Path(step.detail["out"]) for step in first.steps if step.step.startswith("export")]
    assert exported
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for out in exported for p in out.rglob("*") if p.is_file()}
    second = prefdata.run(folder / "pipelines" / path.name, "s.duckdb")
    assert [(step.step, step.done, step.had) for step in second.steps] == [(step.step, 0, step.rows_in) for step in second.steps]
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in before} == before


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_header_says_what_needs_run_and_override(path: Path) -> None:
    head = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert head.startswith(f"# {path.name}: ")
    for word in ("needs", "run       prefdata run pipelines/" + path.name, "override"):
        assert word in head
    overridden = re.search(rf"override\s+prefdata run pipelines/{path.name} (.*)", head)
    assert overridden
    from prefdata.core.recipe import load

    load(path, [item for item in overridden[1].split() if "=" in item])


def test_recipes_hold_no_secret() -> None:
    for path in RECIPES:
        data = yaml.safe_load(path.read_text())
        assert not [m for m in data.get("models", {}).values() if any("key" in k and k != "api_key_env" for k in m)]


def test_paths_may_be_relative_to_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "pipelines" / "mine.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    (folder / "pipelines" / "mine.yaml").write_text("steps:\n  - source: {auto: {path: mine.jsonl}}\n")
    monkeypatch.chdir(folder / "elsewhere")
    assert prefdata.run(folder / "pipelines" / "mine.yaml", "s.duckdb").steps[0].done == 1
    assert (folder / "elsewhere" / "s.duckdb").exists()
