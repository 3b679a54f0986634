"""One contract for every method of every shelf: adding a file adds its test.

The shelves of the trainer (losses, heads) have contracts of their own under tests/train.
"""

from __future__ import annotations

import json
import subprocess
import sys
import typing

import pytest

from prefdata.core import catalogue
from prefdata.core.columns import Keys, relation
from prefdata.core.method import Method
from tests.golden_cases import GOLDEN, OTHER, golden

METHODS = [m for m in catalogue.everything() if m.shelf not in OTHER]
HANDED = {
    "sources": {("path",)},
    "strategies": {("prompt",), ("prompt", "ask"), ("prompt", "ask", "seed")},
    "pairing": {("rows",), ("rows", "seed")},
    "judges": {("pair",), ("response",), ("pair", "ask"), ("response", "ask"), ("pair", "ask", "seed"), ("path",)},
    "acquire": {("rows",), ("rows", "seed")},
    "aggregate": {(), ("counts",), ("votes",), ("pool",), ("votes", "seed")},
    "signals": {(), ("rows",), ("rows", "policy"), ("rows", "embed"), ("rows", "seed")},
    "filters": {(), ("rows",), ("rows", "seed")},
    "audits": {("db",)},
    "exports": {("rows",)},
}
"""What may stand left of the star."""
SUBJECTS = {
    "strategies": ("prompt",),
    "pairing": ("response",),
    "judges": ("pair", "response"),
    "acquire": ("pair",),
    "aggregate": ("pair",),
    "signals": ("pair", "response", "prompt"),
    "filters": ("pair",),
}
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.shelf}/{m.name}")


def of(shelf: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", [m for m in METHODS if m.shelf == shelf], ids=lambda m: m.name)


def test_every_shelf_has_a_method() -> None:
    assert set(HANDED) <= {m.shelf for m in METHODS}


@every
def test_header_and_summary(method: Method) -> None:
    assert isinstance(method.version, int)
    assert method.version >= 1
    assert method.handed in HANDED[method.shelf]
    assert method.header["subject"] in SUBJECTS.get(method.shelf, ("",))
    assert method.summary.endswith((".", ";", ":")), method.summary
    assert 10 <= len(method.summary) <= 160


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
    needed = {
        name: golden(method.shelf, method.name)["cases"][0]["params"][name] for name, param in method.params.items() if param.required
    }
    assert method.bind({**given, **needed}) == {**given, **needed}


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
