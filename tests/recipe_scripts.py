"""Scripted models for the recipes that ask models, as `key=value` overrides, and the same recipes on a server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TIE, A, B = '{"choice": "tie"}', '{"choice": "A"}', '{"choice": "B"}'
DRAFT = "Short walks help. They clear the head, they cost nothing, and most people can fit one into a day."
REVISED = "Short walks help: ten minutes clear the head, they cost nothing, and most people can fit one into a day."
ANSWERS = [f"Candidate {number} of the model, with {number} reasons." for number in range(16)]


def mock(replies: Any) -> dict[str, Any]:
    return {"kind": "mock", "replies": replies}


def _programs() -> dict[str, list[str]]:
    """What a prompt of the code samples says -> a program that is right and one that is not."""
    rows = [json.loads(line) for line in (ROOT / "sample_data" / "code_tests.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["prompt"]: [f"```python\n{row['solution']}```", "```python\ndef nothing():\n    return None\n```"] for row in rows}


SCRIPTS: Mapping[str, Mapping[str, Any]] = {
    "ultrafeedback": {
        **{f"writer_{n}": mock(f"The answer of writer {n}. It has {n} sentences, or so it says.") for n in range(1, 5)},
        "critic": mock('{"reasons": "as shown", "ratings": {"1": 5, "2": 4, "3": 2, "4": 1}}'),
    },
    "clair": {
        "writer": mock(DRAFT),
        "teacher": mock(f"<reasoning>says how long</reasoning>\n<revised_answer>{REVISED}</revised_answer>"),
    },
    "rso": {
        "policy": mock(ANSWERS),
        "reward": {"kind": "mock", "rewards": {"contains": {f"Candidate {n} ": n / 4 for n in range(16)}}},
    },
    "hybrid_panel": {"judge": mock([A, B, TIE]), **{f"juror_{n}": mock([A, B]) for n in range(1, 4)}},
    "hybrid_labels": {},
    "code_unit_tests": {
        "writer": mock({"contains": _programs()}),
        "box": {"kind": "sandbox", "enabled": True, "isolation": "limits"},
    },
    "self_rewarding": {
        "policy": mock(ANSWERS),
        "judge": mock([f"Fine.\n[[{score}]]" for score in range(6)]),
    },
}
"""Recipe -> its models, offline. The programs are ours, so that the sandbox's bounds are enough, on every system."""
ALSO: Mapping[str, tuple[str, ...]] = {"self_rewarding": ("judge.pointwise.ask=judge",)}
"""What beside the models makes the script fit: a model that rates itself is two models here."""


def offline(recipe: str, *, only: Iterable[str] | None = None) -> list[str]:
    """Overrides that put scripts in the place of a recipe's models, of all or of those named."""
    names = SCRIPTS[recipe] if only is None else only
    return [*(f"models.{name}={json.dumps(SCRIPTS[recipe][name])}" for name in names), *(ALSO.get(recipe, ()) if only is None else ())]


def served(recipe: str, url: str, model: str) -> list[str]:
    """Overrides that name a server: base_url and model of every model that is asked over HTTP."""
    models = yaml.safe_load((ROOT / "pipelines" / f"{recipe}.yaml").read_text(encoding="utf-8")).get("models", {})
    asked = [name for name, spec in models.items() if spec["kind"] == "openai"]
    return [f"models.{name}.{key}={value}" for name in asked for key, value in (("base_url", url), ("model", model))]


def few(folder: Path, prompts: int) -> None:
    """Keep the first lines of the sample files of a working copy."""
    for name in ("candidates", "code_tests"):
        path = folder / "sample_data" / f"{name}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:prompts]), encoding="utf-8")


def copy(folder: Path) -> None:
    """The recipes and the sample data, as `prefdata init` lays them out."""
    for name in ("pipelines", "sample_data"):
        shutil.copytree(ROOT / name, folder / name)
