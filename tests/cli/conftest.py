"""A small store, filled through the real command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_tools import RECIPE, call, pairs, process, write

from prefdata.core import catalogue


@pytest.fixture(scope="session")
def filled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    write(folder / "pairs.jsonl", pairs())
    (folder / "recipe.yaml").write_text(RECIPE)
    for args in (("import", "pairs.jsonl"), ("run", "recipe.yaml")):
        got = process(*args, cwd=folder)
        assert got.returncode == 0, got.stderr
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFDATA_STORE", raising=False)
    return tmp_path


@pytest.fixture
def filled(here: Path, filled_folder: Path) -> Path:
    """A working directory with an imported, labelled, filtered and exported store."""
    shutil.copytree(filled_folder, here, dirs_exist_ok=True)
    return here


@pytest.fixture
def one_id(filled: Path) -> Callable[[str], str]:
    """The id of the pair with this item id."""
    return lambda item: str(call("sql", f"SELECT subject FROM items WHERE item_id = '{item}'", "--json").json[0]["subject"])


@pytest.fixture(autouse=True)
def _no_plugins_left() -> Iterator[None]:
    """A process of a user's has the plugins of one call; here many calls share one."""
    yield
    if catalogue._plugins:
        catalogue._plugins.clear()
        catalogue.shelf_methods.cache_clear()
