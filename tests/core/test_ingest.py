"""Imports: counts add up, a second import adds nothing, votes find their pair whichever way it is stored."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from prefdata.core.ingest import Batch, ingest
from prefdata.core.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


PAIRS = pl.DataFrame(
    {
        "line": [1, 2, 3, 4],
        "prompt": ["hi", "hi", "yo", "yo"],
        "response_a": ["x", "y", "same", "long one"],
        "response_b": ["y", "x", "same", "z"],
        "label": ["a", "b", "a", None],
        "strength": [0.5, -0.5, None, None],
        "score_a": [7.0, 3.0, None, None],
        "score_b": [3.0, 7.0, None, None],
        "source": ["t"] * 4,
        "item_id": ["1", "2", "3", "4"],
    }
)


def test_counts_add_up_and_a_second_import_adds_nothing(store: Store) -> None:
    first = ingest(store, [Batch("pairs", PAIRS, "f.jsonl")])
    assert first.read == first.stored + first.known + len(first.rejects) == 4
    assert [(r.line, r.field) for r in first.rejects] == [(3, "response_b")]
    assert dict(first.added.items()) == {
        "prompts": 2,
        "responses": 4,
        "pairs": 2,
        "items": 3,
        "annotations": 2,
        "annotators": 1,
    }
    second = ingest(store, [Batch("pairs", PAIRS, "f.jsonl")])
    assert (second.stored, second.known) == (0, 3)
    assert not any(second.added.values())


def test_the_same_pair_the_other_way_round_is_one_pair_with_agreeing_labels(store: Store) -> None:
    ingest(store, [Batch("pairs", PAIRS)])
    votes = store.rows(
        "SELECT x.choice, x.strength, x.score_a, x.score_b, ra.text FROM annotations x JOIN pairs p ON p.id = x.subject "
        "JOIN responses ra ON ra.id = p.a"
    )
    assert len(votes) == 2
    better = {(text if choice == "a" else {"x": "y", "y": "x"}[text]) for choice, _, _, _, text in votes}
    assert better == {"x"}
    for choice, strength, score_a, score_b, _ in votes:
        assert (strength > 0) == (choice == "a") == (score_a > score_b)


def test_equal_rows_of_one_file_are_all_kept(store: Store) -> None:
    ratings = pl.DataFrame({"line": [1], "ref": ["1"], "source": ["t"], "label": ["a"]})
    ingest(store, [Batch("pairs", PAIRS)])
    done = ingest(store, [Batch("annotations", pl.concat([ratings, ratings.with_columns(line=pl.lit(2, pl.Int64))]), "v.jsonl")])
    assert done.stored == 2
    assert store.value("SELECT count(*) FROM annotations WHERE annotator_id = 'imported:t' AND score_a IS NULL") == 2


def test_equal_rows_in_different_batches_are_all_kept_once(store: Store) -> None:
    """Seventy unnamed raters may say the same; where a batch ends must not matter."""
    ingest(store, [Batch("pairs", PAIRS)])
    rating = pl.DataFrame({"line": [1], "ref": ["1"], "source": ["t"], "label": ["a"], "annotator_id": ["crowd"]})
    batches = [Batch("annotations", pl.concat([rating] * n), "v.jsonl") for n in (3, 1, 2)]
    assert ingest(store, batches).stored == 6
    assert ingest(store, [Batch("annotations", pl.concat([rating] * 6), "v.jsonl")]).known == 6
    assert store.value("SELECT count(*) FROM annotations WHERE annotator_id = 'crowd'") == 6


def test_votes_by_item_and_by_models(store: Store) -> None:
    ingest(store, [Batch("pairs", PAIRS)])
    candidates = pl.DataFrame(
        {"line": [1, 1], "prompt": ["q", "q"], "text": ["x", "y"], "model": ["m1", "m2"], "source": ["t"] * 2, "item_id": ["q1"] * 2}
    )
    ingest(store, [Batch("responses", candidates)])
    votes = pl.DataFrame(
        {
            "line": [1, 2, 3, 4],
            "ref": ["1", "q1", "nowhere", "q1"],
            "source": ["t"] * 4,
            "model_a": [None, "m2", None, "m9"],
            "model_b": [None, "m1", None, "m1"],
            "label": ["a", "a", "a", "a"],
            "annotator_id": ["ann"] * 4,
            "rationale": ["because"] * 4,
        }
    )
    done = ingest(store, [Batch("annotations", votes, "v.jsonl")])
    assert done.stored == 2
    assert [r.line for r in done.rejects] == [3, 4]
    found = dict(
        store.rows(
            "SELECT CASE choice WHEN 'a' THEN ra.text ELSE rb.text END, x.rationale FROM annotations x JOIN pairs p ON p.id = x.subject "
            "JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b WHERE annotator_id = 'ann' AND p.strategy = 'votes'"
        )
    )
    assert found == {"y": "because"}


def test_rows_that_name_no_source_get_the_files_name(store: Store) -> None:
    nameless = PAIRS.head(2).drop("source")
    assert ingest(store, [Batch("pairs", nameless, "data/mine.v2.jsonl.gz")]).stored == 2
    assert store.rows("SELECT DISTINCT source FROM pairs UNION SELECT DISTINCT source FROM prompts") == [("mine",)]
    assert ingest(store, [Batch("pairs", nameless, "renamed.jsonl")]).known == 2
    votes = pl.DataFrame({"line": [1], "ref": ["1"], "label": ["a"], "annotator_id": ["ann"]})
    assert ingest(store, [Batch("annotations", votes, "votes.jsonl")]).stored == 1


def test_an_empty_answer_is_data_and_null_labels_make_no_vote(store: Store) -> None:
    frame = PAIRS.head(1).with_columns(response_b=pl.lit(""), label=pl.lit(None, pl.String), score_a=pl.lit(None, pl.Float64))
    assert ingest(store, [Batch("pairs", frame)]).stored == 1
    assert store.value("SELECT count(*) FROM annotations") == 0
    assert store.value("SELECT count(*) FROM responses WHERE text = ''") == 1
