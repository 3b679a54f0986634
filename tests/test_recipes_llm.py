"""The recipes that ask models: offline on scripts, where a second run asks nothing, and on a real server by address and name alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import prefdata
from prefdata.core.errors import PrefdataError
from prefdata.core.judged import judge_figures
from prefdata.core.run import Report
from prefdata.core.store import Store
from tests.recipe_scripts import ALSO, DRAFT, REVISED, SCRIPTS, copy, few, offline, served

ROOT = Path(__file__).resolve().parents[1]
TINY = "sample_data/tiny-lm"
PROMPTS = 6


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working copy with a few prompts."""
    copy(tmp_path)
    few(tmp_path, PROMPTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str, store: str | Store, *overrides: str, **options: Any) -> Report:
    return prefdata.run(Path("pipelines") / f"{name}.yaml", store, overrides=overrides, **options)


def step(report: Report, name: str) -> Any:
    (found,) = [one for one in report.steps if one.step == name]
    return found


def calls(store: str | Store) -> int:
    return int((store if isinstance(store, Store) else Store(store)).value("SELECT count(*) FROM calls"))


def exported(report: Report) -> pl.DataFrame:
    """The training rows that an export step wrote."""
    (out,) = [Path(one.detail["out"]) for one in report.steps if one.step.startswith("export")]
    return pl.concat([pl.read_parquet(path) for path in sorted(out.rglob("*.parquet"))])


@pytest.mark.parametrize(
    ("name", "asked"),
    [("ultrafeedback", 6 * (4 + 4)), ("clair", 6 * 2), ("rso", 6 * 16), ("self_rewarding", 6 * (4 + 4))],
)
def test_offline_and_again(name: str, asked: int, folder: Path) -> None:
    """Each call once: answers per prompt, and what the judge is asked about them; a second run computes and asks nothing."""
    first = run(name, "s.duckdb", *offline(name))
    assert [(one.step, one.failed, one.abstained) for one in first.steps if one.failed or one.abstained] == []
    assert calls("s.duckdb") == asked
    rows = exported(first)
    assert rows.height >= PROMPTS / 2
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    second = run(name, "s.duckdb", *offline(name))
    assert [(one.step, one.done, one.had) for one in second.steps] == [(one.step, 0, one.rows_in) for one in second.steps]
    assert calls("s.duckdb") == asked
    assert {path: path.read_bytes() for path in before} == before


def test_ultrafeedback_pairs_the_best_with_the_worst(folder: Path) -> None:
    report = run("ultrafeedback", "s.duckdb", *offline("ultrafeedback"))
    store = Store("s.duckdb")
    assert store.value("SELECT count(DISTINCT model) FROM responses") == 1, "a mock's name"
    assert store.value("SELECT count(DISTINCT params->>'$.writer') FROM responses") == 4
    assert store.value("SELECT count(*) FROM responses WHERE params->>'$.principle' IS NULL") == 0
    scores = {row[0]: row[1] for row in store.rows("SELECT subject, score FROM annotations WHERE kind = 'response'")}
    pairs = store.rows("SELECT p.a, p.b, l.winner FROM pairs p JOIN labels l ON l.pair_id = p.id WHERE l.winner IN ('a', 'b')")
    assert pairs
    assert all((scores[a] > scores[b]) == (winner == "a") for a, b, winner in pairs)
    assert step(report, "pairing best_worst").done <= PROMPTS


def test_clair_takes_the_revision(folder: Path) -> None:
    rows = exported(run("clair", "s.duckdb", *offline("clair")))
    assert rows.select(pl.col("chosen").unique(), pl.col("rejected").unique()).rows() == [(REVISED, DRAFT)]
    assert rows.height == PROMPTS


def test_rso_accepts_four_of_sixteen(folder: Path) -> None:
    """Two disjoint pairs a prompt, the higher reward chosen; the accepted ones lie above the mean of all."""
    rows = exported(run("rso", "s.duckdb", *offline("rso")))
    assert rows.height == 2 * PROMPTS
    reward = {f"Candidate {n} of the model, with {n} reasons.": n / 4 for n in range(16)}
    chosen, rejected = ([reward[text] for text in rows[side]] for side in ("chosen", "rejected"))
    assert all(one > other for one, other in zip(chosen, rejected, strict=True))
    assert sum(chosen + rejected) / len(chosen + rejected) > 15 / 8 + 0.5


def test_code_runs_in_the_sandbox(folder: Path) -> None:
    few(folder, 2)
    sampled = ("strategy.sample_n.n=2", *offline("code_unit_tests"))
    first = run("code_unit_tests", "s.duckdb", *sampled)
    assert (calls("s.duckdb"), step(first, "judge unit_tests").done, step(first, "judge unit_tests").failed) == (4, 4, 0)
    rows = exported(first)
    assert rows.height == 2
    assert not rows["chosen"].str.contains("nothing").any()
    assert rows["rejected"].str.contains("nothing").all()
    second = run("code_unit_tests", "s.duckdb", *sampled)
    assert [(one.step, one.done) for one in second.steps if one.done] == []
    assert calls("s.duckdb") == 4


def test_code_stays_off_until_it_is_allowed(folder: Path) -> None:
    with pytest.raises(PrefdataError, match=r"models\.box\.enabled"):
        run("code_unit_tests", "s.duckdb", *offline("code_unit_tests", only=["writer"]))


def test_hybrid_asks_the_panel_where_the_judge_is_not_sure_and_people_where_the_panel_is_split(folder: Path) -> None:
    first = run("hybrid_panel", "s.duckdb", *offline("hybrid_panel"))
    store = Store("s.duckdb")
    unsure = store.value("SELECT count(*) FROM annotations WHERE annotator_id = 'pairwise:judge' AND choice = 'tie'")
    assert 0 < unsure < step(first, "judge pairwise").rows_in
    assert step(first, "judge panel").rows_in == unsure
    assert calls(store) == 2 * step(first, "judge pairwise").rows_in + 6 * unsure
    waiting = {row[0] for row in store.rows("SELECT pair_id FROM queue WHERE send_to = 'human'")}
    assert 0 < len(waiting) <= unsure
    asked = calls(store)
    second, third = (run("hybrid_panel", "s.duckdb", *offline("hybrid_panel")) for _ in range(2))
    assert [one.done for one in second.steps if one.step.startswith("judge")] == [0, 0], "labels are counted anew, for there are new votes"
    assert [(one.step, one.done, one.had) for one in third.steps] == [(one.step, 0, one.rows_in) for one in third.steps]
    assert calls(store) == asked
    _people_decide(store, sorted(waiting)[0])


def _people_decide(store: Store, pair: Any) -> None:
    """Labels before and after a person votes, and no juror is asked anew."""
    before = run("hybrid_labels", store)
    sure = store.value("SELECT count(*) FROM annotations WHERE annotator_id = 'pairwise:judge' AND choice IN ('a', 'b')")
    assert exported(before).height >= sure
    assert [(one.step, one.done) for one in run("hybrid_labels", store).steps if one.done] == []
    with store.write() as db:
        db.execute(
            """INSERT INTO annotations BY NAME SELECT uuid() AS id, ?::UUID AS subject, 'pair' AS kind, 'ann' AS annotator_id,
               'human' AS annotator_kind, 'b' AS choice, now()::TIMESTAMP AS created""",
            [str(pair)],
        )
    after = run("hybrid_labels", store)
    key = step(after, "aggregate weighted_vote").key
    assert store.rows("SELECT winner FROM labels WHERE pair_id = ? AND key = ?", [str(pair), key]) == [("b",)]
    again = run("hybrid_panel", store, *offline("hybrid_panel"))
    assert step(again, "judge panel").done == 0
    assert (
        store.value("SELECT count(*) FROM queue WHERE pair_id = ? AND key = ?", [str(pair), step(again, "acquire disagreement").key]) == 0
    )


def test_self_rewarding_two_rounds_with_a_model_that_is_trained_between_them(folder: Path) -> None:
    """The tiny model samples in this process, a script rates; round 2 runs on what round 1 trained, on a store of its own."""
    train = pytest.importorskip("prefdata.train")
    judge = (*offline("self_rewarding", only=["judge"]), *ALSO["self_rewarding"], "strategy.sample_n.max_tokens=24")
    models = [TINY]
    for number in (1, 2):
        local = json.dumps({"kind": "transformers", "path": models[-1], "device": "cpu"})
        report = run("self_rewarding", f"r{number}.duckdb", f"models.policy={local}", *judge, f"export.dpo.out=out/round_{number}")
        assert step(report, "strategy sample_n").done == PROMPTS
        assert exported(report).height >= 2
        if number == 1:
            config = train.TrainConfig(max_steps=2, lr=1e-3, batch_size=4, micro_batch=4, device="cpu", eval_every=100, save_every=100)
            result = train.train("dpo", Path("out/round_1"), TINY, Path("out/model_1"), config)
            models.append(str(result.out))
    texts = [{row[0] for row in Store(f"r{number}.duckdb").rows("SELECT text FROM responses")} for number in (1, 2)]
    assert texts[0] != texts[1], "another model answers"
    keys = [Store(f"r{number}.duckdb").value("SELECT key FROM steps WHERE method = 'sample_n'") for number in (1, 2)]
    assert keys[0] != keys[1], "and the step knows"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A real server that is not ours, with the tiny model."""
    pytest.importorskip("fastapi", reason="transformers serve needs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", TINY, "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(900):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize(
    ("name", "mine", "judges", "asks"),
    [
        ("ultrafeedback", [], ["critic"], "strategy pool"),
        ("hybrid_panel", [], ["judge", "juror_1", "juror_2", "juror_3"], "judge pairwise"),
        ("code_unit_tests", ["box"], ["writer"], "strategy sample_n"),
    ],
)
def test_on_a_real_server(name: str, mine: list[str], judges: list[str], asks: str, folder: Path, url: str) -> None:
    """base_url and model are all that changes (and what no server gives: a reward model, a sandbox).

    The tiny model cannot judge: rows fail and say why, and the run goes on to its end. With scripts in the place of whoever
    has to judge, the same store then gives an export, and what the server said is not asked for again.
    """
    few(folder, 2)
    given = [*served(name, url, TINY), *offline(name, only=mine)]
    report = run(name, "s.duckdb", *given)
    assert report.steps[-1].step.split()[0] in ("export", "acquire")
    assert step(report, asks).done + step(report, asks).failed == step(report, asks).rows_in > 0
    store = Store("s.duckdb")
    replied = store.value("SELECT count(*) FROM calls")
    assert replied > 0
    assert store.rows("SELECT DISTINCT model FROM calls WHERE model NOT LIKE '%tiny-lm%'") == []
    for note in (row[0] for row in store.rows("SELECT note FROM outcomes WHERE state = 'failed'")):
        assert note.strip()
    settled = [*given, *offline(name, only=judges), *ALSO.get(name, ())]
    again = run(name, store, *settled, retry_failed=True)
    if name == "hybrid_panel":
        again = run("hybrid_labels", store)
        assert {row["judge"] for row in judge_figures(store)} >= {"pairwise:judge"}
    assert exported(again).height > 0, [(one.step, one.rows_in, one.done, one.failed) for one in again.steps]
    third = run("hybrid_labels" if name == "hybrid_panel" else name, store, *([] if name == "hybrid_panel" else settled))
    assert [(one.step, one.done) for one in third.steps if one.done] == []


def test_every_recipe_that_asks_models_is_scripted() -> None:
    recipes = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "pipelines").glob("*.yaml")}
    asking = {name for name, recipe in recipes.items() if any(spec["kind"] == "openai" for spec in recipe.get("models", {}).values())}
    assert asking <= set(SCRIPTS)
