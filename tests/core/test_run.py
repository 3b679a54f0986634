"""The loop: three outcomes, resuming, staleness, plugins, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.core import catalogue
from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch, ingest
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store

ROOT = Path(__file__).resolve().parents[2]
JUDGE = '''
"""A judge for tests."""
import time
from prefdata.core.method import method
from prefdata.core.rows import Abstained, Pair, Verdict

@method(version=1, subject="pair")
def moody(pair: Pair, *, pause: float = 0.0, log: str = "") -> Verdict | Abstained:
    """Abstains, fails or answers, by what the prompt says."""
    time.sleep(pause)
    if log:
        with open(log, "a") as file:
            file.write(pair.id + "\\n")
    if "quiet" in pair.prompt.text:
        return Abstained("nothing to say")
    if "broken" in pair.prompt.text:
        raise ValueError("unreadable reply: ???")
    return Verdict("a" if len(pair.a.text) >= len(pair.b.text) else "b", strength=0.25, rationale="longer")
'''
SIGNAL = '''
"""A signal for tests."""
import polars as pl
from prefdata.core.method import method

@method(version=1, subject="pair", needs=("a_text", "b_text"), gives={"half": "nothing"})
def half(rows: pl.DataFrame) -> pl.DataFrame:
    """NaN, infinity and numbers."""
    n = pl.int_range(pl.len())
    return rows.select(half=pl.when(n % 3 == 0).then(float("nan")).when(n % 3 == 1).then(float("inf")).otherwise(1.5))
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Path]:
    for shelf, name, code in (("judges", "moody", JUDGE), ("signals", "half", SIGNAL)):
        (tmp_path / "plug" / shelf).mkdir(parents=True)
        (tmp_path / "plug" / shelf / f"{name}.py").write_text(code)
    catalogue.add_plugins(tmp_path / "plug")
    yield tmp_path / "plug"
    catalogue._plugins.clear()
    catalogue.shelf_methods.cache_clear()


def pairs(prompts: list[str], source: str = "t") -> pl.DataFrame:
    n = len(prompts)
    return pl.DataFrame(
        {
            "line": range(1, n + 1),
            "prompt": prompts,
            "response_a": [f"long answer {i} {'x' * (i % 7)}" for i in range(n)],
            "response_b": [f"short {i}" for i in range(n)],
            "label": ["a"] * n,
            "source": [source] * n,
            "item_id": [str(i) for i in range(n)],
        }
    )


def run(store: Store, *steps: Any, **options: Any) -> list[Any]:
    top = {k: options.pop(k) for k in ("seed", "only") if k in options}
    return execute(store, parse({"steps": list(steps), **top}), **options).steps


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


def test_three_outcomes_and_nothing_is_repeated(store: Store, plugins: Path, tmp_path: Path) -> None:
    ingest(store, [Batch("pairs", pairs(["ok", "quiet one", "broken one", "fine"]))])
    log = tmp_path / "log"
    (first,) = run(store, {"judge": {"moody": {"log": str(log)}}})
    assert (first.done, first.abstained, first.failed) == (2, 1, 1)
    assert dict(store.rows("SELECT state, note FROM outcomes WHERE state <> 'done'")) == {
        "abstained": "nothing to say",
        "failed": "ValueError: unreadable reply: ???",
    }
    assert store.value("SELECT count(*) FROM annotations WHERE annotator_id = 'moody'") == 2
    (again,) = run(store, {"judge": {"moody": {"log": str(log)}}})
    assert (again.had, again.done, again.failed) == (4, 0, 0)
    (retried,) = run(store, {"judge": {"moody": {"log": str(log)}}}, retry_failed=True)
    assert (retried.had, retried.failed) == (3, 1)
    assert store.value("SELECT count(*) FROM outcomes") == 4
    assert len(log.read_text().splitlines()) == 5
    (other,) = run(store, {"judge": {"moody": {"log": str(log), "pause": 0.001}}})
    assert other.had == 0
    assert other.key != first.key


def test_a_plan_computes_nothing(store: Store, plugins: Path) -> None:
    ingest(store, [Batch("pairs", pairs(["x", "y"]))])
    planned = run(store, {"judge": "moody"}, {"aggregate": "majority"}, {"signal": "half"}, {"filter": "no_ties"}, plan=True)
    assert [(s.rows_in, s.missing) for s in planned][:3] == [(2, 2), (2, 2), (2, 2)]
    for table in ("outcomes", "labels", "signals", "decisions", "runs", "steps"):
        assert store.value(f"SELECT count(*) FROM {table}") == 0


def test_nan_is_never_stored(store: Store, plugins: Path) -> None:
    ingest(store, [Batch("pairs", pairs([str(i) for i in range(9)]))])
    (step,) = run(store, {"signal": "half"})
    assert (step.done, step.abstained) == (3, 6)
    assert store.rows("SELECT count(*), count(value), bool_and(isfinite(value)) FROM signals") == [(9, 3, True)]


def test_new_votes_change_labels_and_what_hangs_on_them(store: Store) -> None:
    ingest(store, [Batch("pairs", pairs(["x", "y"]))])
    steps = ({"aggregate": "majority"}, {"signal": "length_margin"}, {"filter": "no_ties"})
    run(store, *steps)
    assert all(s.had == s.rows_in for s in run(store, *steps))
    against = pl.DataFrame({"line": [1, 2], "ref": ["0", "0"], "source": ["t"] * 2, "label": ["b"] * 2, "annotator_id": ["p", "q"]})
    ingest(store, [Batch("annotations", against)])
    label, signals, _ = run(store, *steps)
    assert label.had == 0
    assert signals.had == 0
    winners = store.rows("SELECT margin, votes FROM labels ORDER BY votes")
    assert winners == [(1.0, 1), (pytest.approx(1 / 3), 3)]


def test_new_pairs_only_are_scored_by_text_signals(store: Store) -> None:
    ingest(store, [Batch("pairs", pairs(["x", "y"]))])
    run(store, {"signal": "edit_distance"})
    ingest(store, [Batch("pairs", pairs(["x", "y", "z"]))])
    (step,) = run(store, {"signal": "edit_distance"})
    assert (step.rows_in, step.had, step.done) == (3, 2, 1)


def test_filters_see_what_earlier_ones_kept(store: Store) -> None:
    ingest(store, [Batch("pairs", pairs([str(i) for i in range(10)]))])
    first, second = run(
        store,
        {"aggregate": "majority"},
        {"filter": {"where": {"keep": "a_chars + b_chars > 23", "reason": "short"}}},
        {"filter": {"where": {"keep": "row_number() over (order by pair_id) <= 2", "reason": "rest"}}},
    )[1:]
    assert first.detail["dropped"] == {"short": 10 - first.detail["kept"]}
    assert second.rows_in == first.detail["kept"]
    assert second.detail["kept"] == 2


def test_only_restricts_to_sources(store: Store) -> None:
    ingest(store, [Batch("pairs", pairs(["x"])), Batch("pairs", pairs(["y", "z"], source="u"))])
    assert run(store, {"signal": "edit_distance"}, only="u")[0].rows_in == 2
    assert run(store, {"signal": "edit_distance"})[0].had == 2


def test_columns_that_are_not_there_yet(store: Store) -> None:
    ingest(store, [Batch("pairs", pairs(["x"]))])
    with pytest.raises(PrefdataError, match="add an aggregate step"):
        run(store, {"filter": {"where": {"keep": "margin > 0"}}})
    with pytest.raises(PrefdataError, match="Did you mean 'a_chars'"):
        run(store, {"filter": {"where": {"keep": "a_char > 0"}}})
    with pytest.raises(PrefdataError, match="unknown parameter 'kep'"):
        run(store, {"filter": {"where": {"kep": "a_chars > 0"}}})


def test_runs_are_remembered(store: Store) -> None:
    ingest(store, [Batch("pairs", pairs(["x"]))])
    run(store, {"aggregate": "majority"}, command="prefdata run x.yaml")
    ((command, state, report),) = store.rows("SELECT command, state, report FROM runs")
    assert (command, state) == ("prefdata run x.yaml", "done")
    assert json.loads(report)["steps"][0]["step"] == "aggregate majority"


def _judge_in_a_process(store: Store, plugins: Path, log: Path, pause: float) -> subprocess.Popen[bytes]:
    code = f"""
from pathlib import Path
from prefdata.core import catalogue, rowwise
rowwise.FLUSH_SECONDS = 0.1
catalogue.add_plugins(Path({str(plugins)!r}))
import prefdata
prefdata.run({{"steps": [{{"judge": {{"moody": {{"pause": {pause}, "log": {str(log)!r}}}}}}}]}}, {str(store.path)!r})
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)


def test_kill_9_in_the_middle_then_running_again_finishes(store: Store, plugins: Path, tmp_path: Path) -> None:
    ingest(store, [Batch("pairs", pairs([f"p{i}" for i in range(60)]))])
    log = tmp_path / "log"
    process = _judge_in_a_process(store, plugins, log, 0.02)
    while not log.exists() or len(log.read_text().splitlines()) < 30:
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.wait()
    finished = store.value("SELECT count(*) FROM outcomes")
    assert 0 < finished < 60
    assert _judge_in_a_process(store, plugins, log, 0.02).wait() == 0
    assert store.value("SELECT count(*) FROM outcomes") == 60
    assert store.rows("SELECT count(*), count(DISTINCT subject) FROM annotations WHERE annotator_id = 'moody'") == [(60, 60)]
    computed = log.read_text().splitlines()
    assert len(computed) <= 60 + 30 - finished + 10


def test_ctrl_c_stores_what_is_finished_and_says_how_to_go_on(store: Store, plugins: Path, tmp_path: Path) -> None:
    ingest(store, [Batch("pairs", pairs([f"p{i}" for i in range(200)]))])
    log = tmp_path / "log"
    process = _judge_in_a_process(store, plugins, log, 0.02)
    while not log.exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert b"run the same command again" in stderr
    assert store.value("SELECT count(*) FROM outcomes") == len(log.read_text().splitlines()) > 0
    assert store.value("SELECT state FROM runs") == "stopped"
