"""One contract for every method of every shelf: adding a file adds its test.

The shelves of the trainer (losses, heads) have contracts of their own under tests/train.
"""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from typing import Any

import pytest

from prefdata.core import catalogue
from prefdata.core.columns import Keys, relation
from prefdata.core.method import Method
from prefdata.core.planning import calls_per_row
from prefdata.core.templates import load
from tests.golden_cases import GOLDEN, OTHER, golden

METHODS = [m for m in catalogue.everything() if m.shelf not in OTHER]
FIRST = {
    "sources": ("path",),
    "strategies": ("prompt",),
    "pairing": ("rows",),
    "judges": ("pair", "response", "group", "path"),
    "acquire": ("rows",),
    "aggregate": ("", "counts", "votes", "pool"),
    "signals": ("", "rows"),
    "filters": ("", "rows"),
    "audits": ("db",),
    "exports": ("rows",),
}
"""What stands first left of the star ("": nothing stands there)."""
WITH_MODELS = ("strategies", "judges", "signals")
"""Shelves whose methods may be handed models, under any name and by type, after that."""
SUBJECTS = {
    "strategies": ("prompt",),
    "pairing": ("response",),
    "judges": ("pair", "response", "prompt"),
    "acquire": ("pair",),
    "aggregate": ("pair",),
    "signals": ("pair", "response", "prompt"),
    "filters": ("pair",),
}
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.shelf}/{m.name}")


def needed(method: Method) -> dict[str, Any]:
    """Values for the parameters without a default: those of the first golden case."""
    names = [name for name, param in method.params.items() if param.required]
    return {name: golden(method.shelf, method.name)["cases"][0]["params"][name] for name in names}


def of(shelf: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", [m for m in METHODS if m.shelf == shelf], ids=lambda m: m.name)


def test_every_shelf_has_a_method() -> None:
    assert set(FIRST) <= {m.shelf for m in METHODS}


@every
def test_header_and_summary(method: Method) -> None:
    assert isinstance(method.version, int)
    assert method.version >= 1
    assert method.header["subject"] in SUBJECTS.get(method.shelf, ("",))
    assert method.summary.endswith((".", ";", ":")), method.summary
    assert 10 <= len(method.summary) <= 160


@every
def test_what_is_handed_in(method: Method) -> None:
    first, rest = (method.handed or ("",))[0], method.handed[1:]
    assert first in FIRST[method.shelf]
    assert [name for name in rest if name not in method.models and name != "seed"] == []
    assert not method.models or method.shelf in WITH_MODELS
    if method.shelf == "judges" and first != "path":
        assert method.header["subject"] == {"group": "prompt"}.get(first, first)


@every
def test_calls_are_counted_and_prompts_are_there(method: Method) -> None:
    params = method.bind(needed(method))
    handed = {name: ("one", "two") if wanted.several else ("one",) for name, wanted in method.models.items()}
    asks = any(wanted.use == "ask" for wanted in method.models.values())
    assert (calls_per_row(method, params, handed, 4) >= 1) == asks
    assert all(load(str(method.path), name).strip() for name in method.prompt_files)


@every
def test_parameters_are_typed_and_documented(method: Method) -> None:
    silent = [name for name, param in method.params.items() if not param.doc]
    untyped = [name for name, param in method.params.items() if param.annotation == "Any"]
    assert not silent
    assert not untyped
    assert set(method.params) <= set(typing.get_type_hints(method.load()))


@every
def test_defaults_are_values_of_their_type(method: Method) -> None:
    given = {name: param.default for name, param in method.params.items() if not param.required}
    bound = method.bind({**given, **needed(method)})
    assert {name: value for name, value in bound.items() if name in given} == given


@every
def test_needs_are_columns(method: Method) -> None:
    subject = method.header["subject"] or "pair"
    relation(subject, method.header["needs"], Keys(labels="some key"))


@of("signals")
def test_signals_have_units(method: Method) -> None:
    assert method.header["gives"]
    assert all(isinstance(unit, str) and unit for unit in method.header["gives"].values())


@of("filters")
def test_filters_say_their_reasons(method: Method) -> None:
    assert method.header["reasons"]
    assert all(len(text) > 10 for text in method.header["reasons"].values())


@of("exports")
def test_exports_document_their_columns(method: Method) -> None:
    columns = method.header["columns"]
    assert all(columns.values())
    assert [case["columns"] for case in golden(method.shelf, method.name)["cases"] if "columns" in case] == [list(columns)]


@every
def test_there_is_a_golden_case(method: Method) -> None:
    path = GOLDEN / method.shelf / f"{method.name}.json"
    assert path.exists(), f"write {path.relative_to(GOLDEN.parent.parent)}: rows, parameters, expected output and why"
    cases = golden(method.shelf, method.name)
    assert cases["why"]
    assert cases["cases"]
    assert all(len(case["why"]) > 10 and "expect" in case for case in cases["cases"])


def test_no_golden_file_is_an_orphan() -> None:
    names = {(m.shelf, m.name) for m in METHODS}
    files = [path for path in GOLDEN.glob("*/*.json") if path.parent.name not in OTHER]
    cases = [path for path in files if "cases" in json.loads(path.read_text(encoding="utf-8"))]
    assert [str(path) for path in cases if (path.parent.name, path.stem) not in names] == []


def test_importing_the_methods_stays_light() -> None:
    code = """
import sys
from prefdata.core import catalogue
for method in catalogue.everything():
    if method.shelf not in ("losses", "heads"):
        method.load()
print([name for name in ("torch", "transformers", "streamlit", "sentence_transformers") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
