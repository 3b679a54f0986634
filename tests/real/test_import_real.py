"""Every real file imports: nothing is lost silently, a second import adds nothing, and the dirt is known to the row."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefdata.core.ingest import Counts, ingest
from prefdata.core.reading import detect
from prefdata.core.store import Store
from prefdata.sources.auto import auto

DATA = Path(os.environ.get("PREFDATA_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA}; set PREFDATA_REAL_DATA to their folder")

NOT_RATED = "no stored response"
NOT_STORED = "no stored item"
FILES: dict[str, tuple[str, int, dict[str, int]]] = {
    # file: shape, rows (a candidate counts as one), refusals by a part of their reason
    "pairs/hh_rlhf_harmless_test": ("pairs", 2312, {}),
    "pairs/hhh_alignment": ("pairs", 221, {}),
    "pairs/icai_synthetic": ("pairs", 120, {"give no_prompt=": 120}),
    "pairs/llmbar": ("pairs", 415, {}),
    "pairs/llmfao": ("pairs", 2139, {}),
    "pairs/pandalm": ("pairs", 999, {"is true, not text": 6}),
    "pairs/persona_evals": ("pairs", 44852, {}),
    "pairs/ukp_convarg": ("pairs", 8369, {}),
    "pairs/vicuna_blog": ("pairs", 1040, {}),
    "responses/arena_hard_v0.1": ("candidates", 1500, {}),
    "responses/arena_hard_v2.0": ("candidates", 750, {}),
    "responses/llmfao": ("candidates", 1133, {}),
    "responses/newsroom_pairs": ("candidates", 420, {}),
    "responses/vicuna_blog": ("candidates", 560, {}),
    "annotations/dices_990": ("annotations", 72103, {"'No'": 48995, "'Yes'": 19357, "'Unsure'": 3751}),
    "annotations/llmfao": ("annotations", 8931, {}),
    "annotations/newsroom": ("annotations", 5040, {NOT_RATED: 5040}),
    "annotations/pandalm": ("annotations", 2997, {NOT_STORED: 18}),
    "annotations/recipes": ("annotations", 6336, {NOT_RATED: 6336}),
    "annotations/ukp_convarg": ("annotations", 41750, {}),
    "judgments/llmbar": ("judgments", 36548, {}),
    "judgments/llmfao": ("judgments", 4278, {}),
    "judgments/pandalm": ("judgments", 1998, {NOT_STORED: 12}),
    "items/prometheus_mt_bench_eval": ("responses", 320, {}),
    "judgments/prometheus_mt_bench_eval": ("judgments", 960, {}),
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, tuple[Counts, Counts]]]:
    """One store with every file, each imported twice."""
    store = Store(tmp_path_factory.mktemp("real") / "s.duckdb")
    return store, {name: (ingest(store, auto(file(name))), ingest(store, auto(file(name)))) for name in FILES}


def file(name: str) -> Path:
    return DATA / f"{name}.jsonl.gz"


def test_no_file_is_forgotten() -> None:
    folders = ("pairs", "responses", "annotations", "judgments")
    there = {f"{folder}/{path.name.removesuffix('.jsonl.gz')}" for folder in folders for path in (DATA / folder).iterdir()}
    assert there == {name for name in FILES if not name.startswith("items/")}


@pytest.mark.parametrize("name", FILES)
def test_what_came_in_is_stored_or_refused(name: str, imported: tuple[Store, dict[str, tuple[Counts, Counts]]]) -> None:
    shape, rows, dirt = FILES[name]
    first, again = imported[1][name]
    assert detect(file(name)).shape == shape
    assert first.read == first.stored + first.known + len(first.rejects) == rows
    assert first.known == 0
    found = Counter(next((part for part in dirt if part in reject.reason), reject.reason) for reject in first.rejects)
    assert found == dirt
    assert all(reject.line > 0 and reject.field for reject in first.rejects)
    assert (again.stored, sum(again.added.values()), len(again.rejects)) == (0, 0, len(first.rejects))


def test_labels_stand_in_the_frame_of_the_stored_pair(imported: tuple[Store, dict[str, tuple[Counts, Counts]]]) -> None:
    """Winners counted by text in the store are the labels counted in the file (pandalm less its 6 refused rows)."""
    store = imported[0]
    counted = dict(
        store.rows("""SELECT CASE WHEN choice = 'tie' THEN 'tie' WHEN (choice = 'a') <> i.swapped THEN 'a' ELSE 'b' END, count(*)
        FROM annotations x JOIN items i ON i.subject = x.subject AND i.kind = 'pair' AND i.source = x.source
        WHERE x.source = 'pandalm' AND x.annotator_id LIKE 'human%' GROUP BY 1""")
    )
    whole = Counter(line["label"] for line in _lines(file("annotations/pandalm")))
    lost = sum(whole.values()) - sum(counted.values())
    assert lost == 18
    assert all(0 <= whole[label] - counted[label] <= lost for label in ("a", "b", "tie"))


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_votes_keep_times_reasons_orders_and_unreadable_verdicts(imported: tuple[Store, dict[str, tuple[Counts, Counts]]]) -> None:
    store = imported[0]
    votes = "SELECT count(*), count(seconds), count(rationale), min(seconds) FROM annotations WHERE annotator_id LIKE 'w%' AND source = ?"
    assert store.rows(votes, ["ukp_convarg"]) == [(41750, 41750, 41750, 15.0)]
    unreadable = "SELECT count(*), count(raw) FROM annotations WHERE annotator_kind = 'llm' AND choice IS NULL AND source = ?"
    assert store.rows(unreadable, ["llmbar"])[0][0] == 106
    assert store.rows(unreadable, ["pandalm"]) == [(24, 24)], "25 in the file, one of them on a refused pair"
    judges = "SELECT annotator_id, count(*) FROM annotations WHERE annotator_kind = 'llm' AND source = 'llmbar' GROUP BY 1"
    judged = dict(store.rows(judges))
    assert judged == Counter(f"{line['judge']}/{line['method']}" for line in _lines(file("judgments/llmbar")))
    assert store.value("SELECT count(*) FROM annotations WHERE annotator_id = 'imported:llmbar' AND annotator_kind = 'gold'") == 415


def test_rows_without_prompt_go_in_under_a_given_one(tmp_path: Path) -> None:
    counts = ingest(Store(tmp_path / "s.duckdb"), auto(file("pairs/icai_synthetic"), no_prompt=""))
    assert (counts.stored, counts.rejects) == (120, [])
