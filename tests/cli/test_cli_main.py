"""What all commands have in common: help, exit codes, machine output, the last line, a fast start."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ROOT, call, command, environment, process, refused
from typer.testing import CliRunner

from prefdata.cli.main import LATER, app

COMMANDS = (
    "init",
    "import",
    "run",
    "status",
    "why",
    "sql",
    "methods",
    "export",
    "push",
    "train",
    "audit",
    "label",
    "report",
    "doctor",
    "snapshot",
)
NO_STORE = ("init", "methods", "push", "audit")


def test_the_commands_are_these_in_this_order() -> None:
    out = call("--help").out
    places = [out.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    out = call(name, "--help").out
    assert "Example" in out
    assert f"prefdata {name}" in out
    assert "--json" in out
    assert ("--store" in out) == (name not in NO_STORE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lines_fit_one_line(name: str) -> None:
    line = next(line for line in call("--help").out.splitlines() if line.startswith(f"│ {name} "))
    assert line.rstrip(" │").endswith(".")


def test_a_command_loaded_later_keeps_its_options() -> None:
    assert set(LATER) == {"train"}
    assert "--model" in call("train", "--help").out


def test_no_arguments_is_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output


def test_usage_errors_exit_with_2() -> None:
    for args in (["nonsense"], ["status", "--nonsense"], ["why"], ["run", "x.yaml", "--budget", "-1"]):
        assert CliRunner().invoke(app, args).exit_code == 2
    assert "Did you mean 'status'" in CliRunner().invoke(app, ["statsu"]).stderr


def test_version() -> None:
    from prefdata import __version__

    assert call("--version").out.strip() == f"prefdata {__version__}"


@pytest.mark.parametrize(
    "args",
    [
        ["import", "pairs.jsonl"], ["run", "recipe.yaml"], ["run", "recipe.yaml", "--plan"], ["status"], ["why", "toys:item/3"],
        ["sql", "FROM pairs"], ["methods"], ["methods", "filters", "where"], ["export", "dpo", "--out", "x"],
        ["push", "out/dpo", "me/x", "--dry-run"], ["report"], ["audit", "pairs.jsonl"], ["doctor"], ["snapshot", "copy.duckdb"], ["init"],
    ],
    ids=lambda args: " ".join(args),
)  # fmt: skip
def test_people_get_the_next_command_and_machines_get_json_only(filled: Path, args: list[str]) -> None:
    got = call(*args)
    assert got.code == 0
    assert got.last.startswith("next: ")
    again = call(*(["snapshot", "other.duckdb"] if args[0] == "snapshot" else args), "--json")
    assert again.code == 0
    assert again.json is not None
    assert again.err == ""


def test_the_store_may_be_named_before_or_after_the_command_or_in_the_environment(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (filled / "prefdata.duckdb").rename(filled / "mine.duckdb")
    assert "no store at 'prefdata.duckdb'" in refused("status")
    assert call("status", "--store", "mine.duckdb", "--json").json["store"] == "mine.duckdb"
    assert call("--store", "mine.duckdb", "status", "--json").json["store"] == "mine.duckdb"
    assert call("--store", "other.duckdb", "status", "--store", "mine.duckdb", "--json").json["store"] == "mine.duckdb"
    monkeypatch.setenv("PREFDATA_STORE", "mine.duckdb")
    assert call("status", "--json").json["store"] == "mine.duckdb"
    assert call("--json", "status").json["store"] == "mine.duckdb"


def test_an_error_is_a_sentence_and_an_object_for_machines(here: Path) -> None:
    said = refused("status")
    got = call("status", "--json")
    assert (got.code, got.err) == (2, "")
    assert got.json == {"error": said}


def test_debug_shows_the_traceback(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDATA_DEBUG", "1")
    got = call("status")
    assert got.code == 2
    assert "Traceback" in got.err


def test_a_fault_of_ours_keeps_its_traceback(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(db: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("prefdata.core.queries.overview", broken)
    with pytest.raises(ZeroDivisionError):
        call("status")


def test_ctrl_c_is_one_line_and_130(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(db: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefdata.core.queries.overview", interrupted)
    got = call("status")
    assert got.code == 130
    assert got.err.strip() == "error: stopped: what was finished is stored; run the same command again to go on."


def test_ctrl_c_inside_a_query_is_ctrl_c(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal
    import threading

    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    got = call("sql", "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b")
    assert got.code == 130


def test_notes_of_the_package_reach_stderr(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefdata.core import lock, queries

    def waits(db: Any) -> dict[str, Any]:
        lock.log.info("waiting for process 1")
        logging.getLogger("prefdata.other").debug("not for users")
        return {}

    monkeypatch.setattr(queries, "overview", waits)
    got = call("status", "--json")
    assert got.err.strip() == "waiting for process 1"
    assert got.json == {"store": "prefdata.duckdb"}


def test_a_broken_pipe_is_quiet(filled: Path) -> None:
    line = " ".join(f"'{part}'" for part in command("sql", "SELECT range FROM range(200000)", "--csv"))
    got = subprocess.run(["bash", "-c", f"{line} | head -1"], cwd=filled, env=environment(), capture_output=True, text=True, timeout=60)
    assert got.stdout == "range\n"
    assert got.stderr == ""


def test_help_starts_fast_and_imports_nothing_heavy(here: Path) -> None:
    code = (
        "import sys\nfrom prefdata.cli.main import main\nsys.argv = ['prefdata', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint('loaded:', sorted({m.split('.')[0] for m in sys.modules}))"
    )
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        got = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, cwd=here)
        costs.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    loaded = got.stdout.rpartition("loaded:")[2]
    for name in ("torch", "transformers", "streamlit", "datasets", "polars", "duckdb", "pyarrow", "openai", "pydantic", "yaml"):
        assert f"'{name}'" not in loaded
    assert min(costs) < 0.5, costs


def test_completion_knows_commands_and_names(here: Path) -> None:
    def complete(words: str) -> list[str]:
        env = {"_PREFDATA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        return process(cwd=here, **env).stdout.split()

    assert complete("prefdata sn") == ["snapshot"]
    assert "dpo" in complete("prefdata export d")
    assert "signals" in complete("prefdata methods sig")
    assert "--model" in complete("prefdata train --mod")


def test_plugins_are_methods_like_any(here: Path) -> None:
    shelf = here / "mine" / "filters"
    shelf.mkdir(parents=True)
    (shelf / "never.py").write_text('''"""Filter: drops all."""
from prefdata.core.method import method
from prefdata.core.rows import Sql


@method(version=1, subject="pair", reasons={"never": "by rule"})
def never() -> Sql:
    """Drop every pair."""
    return Sql({"reason": "'never'"})
''')
    assert "Drop every pair." in call("--plugins", "mine", "methods", "filters").out
    assert "does not exist" in refused("--plugins", "nowhere", "methods")


def test_the_entry_point_is_this_one() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"prefdata": "prefdata.cli.main:main"}


def test_json_survives_what_terminals_would_not(filled: Path) -> None:
    got = call("why", "toys:item/0", "--json")
    texts = (json.loads(got.out)["pair"]["a_text"], json.loads(got.out)["pair"]["b_text"])
    assert any("\x1b[31m" in text and "\u202e" in text for text in texts)
    assert "\x1b" not in got.out
    assert "\u202e" not in got.out
