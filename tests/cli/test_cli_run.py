"""`prefdata run` as a user meets it: plan, progress, overrides, Ctrl-C, budget, failed rows."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cli_tools import HOSTILE, call, command, environment, pairs, process, refused, write

from prefdata.cli import progress as shown
from prefdata.cli.show import Screen
from prefdata.core.run import StepReport

SLOW = '''"""Judge: takes its time."""
import asyncio
from prefdata.core.method import method
from prefdata.core.rows import Pair, Verdict


@method(version=1, subject="pair")
async def slow(pair: Pair, *, seconds: float = 0.05) -> Verdict:
    """Say a, after a while."""
    await asyncio.sleep(seconds)
    return Verdict("a")
'''
PICKY = '''"""Judge: fails and abstains on demand."""
from pathlib import Path
from prefdata.core.errors import PrefdataError
from prefdata.core.method import method
from prefdata.core.rows import Abstained, Pair, Verdict


@method(version=1, subject="pair")
def picky(pair: Pair) -> Verdict | Abstained:
    """Fail on question 3 while the file `broken` exists; say nothing about question 4."""
    if pair.prompt.text == "question 3?" and Path("broken").exists():
        raise PrefdataError("no \\x1b[31mverdict in the reply")
    return Abstained("too hard") if pair.prompt.text == "question 4?" else Verdict("a")
'''


@pytest.fixture
def plugins(here: Path) -> Path:
    folder = here / "mine" / "judges"
    folder.mkdir(parents=True)
    (folder / "slow.py").write_text(SLOW)
    (folder / "picky.py").write_text(PICKY)
    return here / "mine"


def recipe(path: Path, steps: list[Any], **top: Any) -> Path:
    path.write_text(json.dumps({**top, "steps": steps}))
    return path


def test_a_second_run_computes_nothing(filled: Path) -> None:
    got = call("run", "recipe.yaml", "--json").json
    assert [(s["step"], s["done"], s["rows_in"] - s["had"]) for s in got["steps"]] == [
        (step, 0, 0) for step in ("aggregate majority", "signal length_margin", "filter no_ties", "filter where", "export dpo")
    ]
    assert got["state"] == "done"
    said = call("run", "recipe.yaml")
    assert "already there" in said.out
    assert "tie 1" in said.out
    assert said.last == "next: prefdata train dpo out/dpo --model MODEL --out DIR"


def test_a_plan_computes_nothing(filled: Path) -> None:
    before = call("sql", "SELECT count(*) FROM runs", "--json").json
    got = call("run", "recipe.yaml", "filter.where.reason=other", "--plan")
    assert got.code == 0
    assert got.last == "next: prefdata run recipe.yaml filter.where.reason=other"
    steps = {s["step"]: s for s in call("run", "recipe.yaml", "filter.where.reason=other", "--plan", "--json").json["steps"]}
    assert (steps["filter no_ties"]["rows_in"], steps["filter no_ties"]["had"]) == (12, 12)
    assert (steps["filter where"]["rows_in"], steps["filter where"]["had"]) == (11, 0)
    assert call("sql", "SELECT count(*) FROM runs", "--json").json == before


def test_a_plan_without_a_store_reads_the_sources_and_leaves_none(here: Path) -> None:
    write(here / "p.jsonl", pairs(5))
    recipe(here / "r.yaml", [{"source": {"auto": {"path": "p.jsonl"}}}, {"aggregate": {"majority": {}}}])
    got = call("run", "r.yaml", "--plan", "--json").json
    assert [(s["step"], s["rows_in"]) for s in got["steps"]] == [("source auto", 5), ("aggregate majority", 5)]
    assert "no store at prefdata.duckdb yet" in call("run", "r.yaml", "--plan").err
    assert not (here / "prefdata.duckdb").exists()


def test_a_plan_tells_calls_and_cost(here: Path) -> None:
    write(here / "p.jsonl", [{"source": "s", "prompt": f"question {n}?"} for n in range(5)])
    model = {"kind": "mock", "replies": "echo", "price": {"input": 1000, "output": 1000}}
    recipe(
        here / "r.yaml", [{"source": {"auto": {"path": "p.jsonl"}}}, {"strategy": {"sample_n": {"ask": "m", "n": 2}}}], models={"m": model}
    )
    got = call("run", "r.yaml", "--plan")
    assert got.code == 0, got.err
    assert "10 calls, $" in got.out


def test_a_budget_ends_a_run_with_exit_3_and_running_again_goes_on(here: Path) -> None:
    write(here / "p.jsonl", [{"source": "s", "prompt": f"question {n}?"} for n in range(20)])
    model = {"kind": "mock", "replies": "echo", "price": {"input": 1000, "output": 1000}, "max_concurrency": 1}
    steps = [{"source": {"auto": {"path": "p.jsonl"}}}, {"strategy": {"sample_n": {"ask": "m", "n": 1, "max_tokens": 10}}}]
    recipe(here / "r.yaml", steps, models={"m": model})
    got = call("run", "r.yaml", "--budget", "0.13")
    assert got.code == 3, got.err
    assert "budget of $0.13" in got.last
    assert got.last.startswith("error: stopped")
    some = call("status", "--json").json["tables"]["responses"]
    assert 0 < some < 20
    assert call("run", "r.yaml").code == 0
    found = call("status", "--json").json
    assert (found["tables"]["responses"], found["tables"]["calls"]) == (20, 20)
    assert found["spend"][0]["calls"] == 20


def test_failed_rows_are_told_by_reason_and_tried_again_on_request(plugins: Path, here: Path) -> None:
    write(here / "p.jsonl", pairs(6))
    call("import", "p.jsonl")
    recipe(here / "r.yaml", [{"judge": {"picky": {}}}])
    (here / "broken").touch()
    args = ["--plugins", "mine", "run", "r.yaml"]
    step = call(*args, "--json").json["steps"][0]
    assert (step["done"], step["abstained"], step["failed"]) == (4, 1, 1)
    said = call("status")
    assert "no ␛[31mverdict in the reply" in said.out
    assert "too hard" in said.out
    assert "no ␛[31mverdict in the reply" in call("why", "toys:item/3").out
    (here / "broken").unlink()
    assert call(*args, "--json").json["steps"][0]["had"] == 6
    step = call(*args, "--retry-failed", "--json").json["steps"][0]
    assert (step["had"], step["done"]) == (5, 1)
    assert [row["state"] for row in call("status", "--json").json["failures"]] == ["abstained"]


def test_ctrl_c_says_how_to_go_on_and_nothing_is_lost_or_done_twice(plugins: Path, here: Path) -> None:
    write(here / "p.jsonl", pairs(40))
    assert process("import", "p.jsonl", cwd=here).returncode == 0
    recipe(here / "r.yaml", [{"judge": {"slow": {}}}])
    args = ["--plugins", "mine", "run", "r.yaml"]
    child = subprocess.Popen(command(*args), cwd=here, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while call("status", "--json").json["tables"]["outcomes"] == 0:
        assert time.monotonic() < deadline
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert lines[-2].startswith("stopping: rows in flight finish first")
    match = re.fullmatch(r"error: stopped in judge slow: .* (\d+) rows are left; run the same command again to go on\.", lines[-1])
    assert match
    done = call("status", "--json").json["tables"]["outcomes"]
    assert done == 40 - int(match[1])
    assert call("status", "--json").json["runs"][0]["state"] == "stopped"
    step = call(*args, "judge.slow.seconds=0.05", "--json").json["steps"][0]
    assert (step["had"], step["done"]) == (done, 40 - done)
    assert call("sql", "SELECT count(*) AS n, count(DISTINCT subject) AS m FROM annotations WHERE key IS NOT NULL", "--json").json == [
        {"n": 40, "m": 40}
    ]


def test_the_display_of_a_terminal_is_live_and_harmless(plugins: Path, here: Path) -> None:
    write(here / "p.jsonl", pairs(30))
    call("import", "p.jsonl")
    recipe(here / "r.yaml", [{"judge": {"slow": {}}}])
    reader, writer = pty.openpty()
    env = {**environment(), "TERM": "xterm-256color", "COLUMNS": "120"}
    line = command("--plugins", "mine", "run", "r.yaml")
    child = subprocess.Popen(line, cwd=here, env=env, stdout=writer, stderr=writer, stdin=subprocess.DEVNULL)
    os.close(writer)
    seen = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(reader)
    assert child.wait(30) == 0
    text = seen.decode()
    assert "judge slow" in text
    assert "/s" in text
    assert "left" in text
    assert re.search(r"judge slow\s+30\s+0\s+30", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text))


def test_log_lines_are_few(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    lines = shown.Lines(Screen())
    lines.start(f"judge {HOSTILE}", 100)
    for _ in range(100):
        now[0] += 0.2
        lines.advance(done=1, cost=0.01)
    lines.finish(StepReport("judge x", rows_in=100, seconds=20))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 + 1
    assert said[0].endswith("25 of 100: 25 done, 5.0/s, $0.2500, 0:15 left")
    assert "\x1b" not in "".join(said)
    assert said[-1] == "judge x: finished in 0:20"


def test_words_of_progress() -> None:
    assert [shown.clock(s) for s in (0, 7, 65, 3723)] == ["0:00", "0:07", "1:05", "1:02:03"]
    tally = shown.Tally("x", 0)
    assert tally.words() == "0 done"


def test_overrides_and_options_are_checked(filled: Path) -> None:
    assert "Did you mean" in refused("run", "recipe.yaml", "filter.wher.keep=true")
    assert "key=value" in refused("run", "recipe.yaml", "nonsense")
    assert "prefdata init" in refused("run", "nowhere.yaml")
