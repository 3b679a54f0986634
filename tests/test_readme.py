"""The README is true: its commands run, in order, and print what it shows; its Python runs; its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.S)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def _plain(text: str) -> str:
    """Without what may differ from run to run: seconds, widths, rules."""
    text = re.sub(r"\b\d+\.\d+\b", "N", re.sub(r"[─\s]+", " ", text))
    return text.strip()


def _commands(block: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip(" ─"):
            found[-1][1].append(line)
    return found


def test_there_is_something_to_hold() -> None:
    assert len(CONSOLE) >= 5
    assert len(PYTHON) >= 2


@pytest.mark.parametrize("block", CONSOLE, ids=lambda b: b.splitlines()[-1][:40])
def test_commands_print_what_is_shown(block: str, folder: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
        "HF_HUB_OFFLINE": "1",
    }
    place = folder / str(CONSOLE.index(block))
    place.mkdir()
    subprocess.run(["prefdata", "init"], cwd=place, env=environment, check=True, capture_output=True)
    for command, shown in _commands(block):
        if command.startswith("pip install"):
            assert command == "pip install 'prefdata[all]'"
            continue
        done = subprocess.run(command, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed = _plain(done.stdout + done.stderr)
        for line in shown:
            assert _plain(line) in printed, f"{command} does not print\n{line}\nbut\n{done.stdout}{done.stderr}"


def test_python_runs(folder: Path) -> None:
    place = folder / "python"
    place.mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["prefdata", "init"], cwd=place, env=environment, check=True, capture_output=True)
    library, plugin = PYTHON
    done = subprocess.run([sys.executable, "-c", library], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    target = place / plugin.split("\n", 1)[0].removeprefix("# ")
    target.parent.mkdir(parents=True)
    target.write_text(plugin)
    (place / "recipe.yaml").write_text(
        "steps:\n  - signal: exclamations\n  - filter: {where: {keep: chosen_exclamations <= rejected_exclamations, reason: shouty}}\n"
    )
    done = subprocess.run(
        ["prefdata", "--plugins", "my_methods", "--store", "from_python.duckdb", "run", "recipe.yaml"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "shouty" in done.stdout


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_tree_names_what_is_there() -> None:
    for place in re.findall(r"^    (\S+/)\s", README, re.M):
        assert (ROOT / place).is_dir(), place
