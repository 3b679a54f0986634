"""The rules of the house, each held by a test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefdata.core import catalogue

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "prefdata"
FILES = sorted(PACKAGE.rglob("*.py"))
METHOD_FILES = sorted({m.path for m in catalogue.everything()})
SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+\w+\s+SET|CREATE\s+(TABLE|VIEW|TEMP)|DROP\s+TABLE)\b", re.I | re.S
)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def strings(path: Path) -> list[tuple[int, str]]:
    """String literals that are no docstrings."""
    tree = ast.parse(path.read_text())
    docs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs.add(id(node.value))
    return [(n.lineno, n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_methods() -> None:
    assert len(METHOD_FILES) > 20


@pytest.mark.parametrize("path", METHOD_FILES, ids=name)
def test_a_method_imports_core_helpers_and_no_other_method(path: Path) -> None:
    allowed = ("prefdata.core",) if "train" not in path.parts else ("prefdata.core", "prefdata.train")
    ours = {m for m in imports(path) if m.startswith("prefdata")}
    assert all(m.startswith(allowed) for m in ours), ours
    assert not {m for m in imports(path) if m.split(".")[0] in ("duckdb", "streamlit")}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_go_one_way(path: Path) -> None:
    place = path.relative_to(PACKAGE).parts[0]
    forbidden = {
        "core": ("prefdata.models", "prefdata.cli", "prefdata.train", "prefdata.sources", "app"),
        "models": ("prefdata.cli", "prefdata.train", "app"),
        "train": ("prefdata.cli", "app"),
    }.get(place, ())
    assert not [m for m in imports(path) if m.startswith(forbidden)] if forbidden else True
    shelves = tuple(f"prefdata.{shelf}" for shelf in catalogue.SHELVES if shelf not in ("losses", "heads"))
    if place == "core":
        assert not [m for m in imports(path) if m.startswith(shelves)], "core reaches shelves by name only"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_the_cli_prints(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "cli"):
        return
    calls = [n.lineno for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
    assert calls == []


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "app").rglob("*.py"))], ids=name)
def test_only_core_writes_sql(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    if parts[:2] == ("prefdata", "core") or parts[:2] == ("prefdata", "audits"):
        return
    assert [(line, text[:60]) for line, text in strings(path) if SQL.search(text)] == []


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "app").rglob("*.py"))], ids=name)
def test_connections_are_opened_by_the_store_only(path: Path) -> None:
    source = path.read_text()
    assert "executemany" not in source
    allowed = path in (PACKAGE / "core" / "store.py", PACKAGE / "core" / "expressions.py")  # the latter: in memory, to parse
    if not allowed:
        assert "duckdb.connect(" not in source


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "loop.py"], ids=name)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=name)
def test_functions_stay_short(path: Path) -> None:
    long = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = (
                node.body[0]
                if isinstance(node.body[0], ast.Expr) and isinstance(getattr(node.body[0], "value", None), ast.Constant)
                else None
            )
            lines = (node.end_lineno or 0) - node.lineno - ((doc.end_lineno or 0) - doc.lineno + 1 if doc else 0)
            if lines > 62:
                long.append((node.name, lines))
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_and_public_class_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.name == "__init__.py" and not tree.body:
        return
    assert ast.get_docstring(tree), "module docstring"
    silent = [n.name for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_") and not ast.get_docstring(n)]
    assert silent == []


HEAVY = ("torch", "transformers", "streamlit", "datasets", "sentence_transformers", "matplotlib")


@pytest.mark.parametrize("code", ["import prefdata", "import prefdata; prefdata.Store; prefdata.catalogue", "import prefdata.cli.main"])
def test_importing_stays_light(code: str) -> None:
    check = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "[]"


def test_the_catalogue_imports_no_method() -> None:
    code = "from prefdata.core import catalogue; n = len(list(catalogue.everything()))\nimport sys\n"
    code += "print(n, [m for m in sys.modules if m.startswith('prefdata.') and m.split('.')[1] not in ('core',)])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip().endswith("[]")
    assert int(out.split()[0]) > 20


def test_nothing_is_left_half_done() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
    todo = {"todo.py"}  # the loss of that name: Tie-rank Oriented Direct preference Optimization
    found = [name(p) for p in [*FILES, *(ROOT / "app").rglob("*.py")] if p.name not in todo and marks.search(p.read_text())]
    assert found == []
