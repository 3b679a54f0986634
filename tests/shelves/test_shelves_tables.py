"""Methods over tables: against plain loops, at the edges, and what they say to bad parameters."""

from __future__ import annotations

import random as dice
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core import text
from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch, ingest
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store
from prefdata.pairing.best_worst import best_worst
from prefdata.signals.edit_distance import edit_distance
from prefdata.signals.length import length


def run(store: Store, *steps: dict[str, Any], seed: int = 0) -> str:
    """The key of the last step."""
    return execute(store, parse({"steps": list(steps), "seed": seed})).steps[-1].key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """100 pairs over 30 prompts; the first response is n characters long, the second 1; u and v vote for the first, w for the second."""
    store = Store(tmp_path / "store.duckdb")
    pairs = pl.DataFrame(
        {
            "item_id": [str(n) for n in range(100)],
            "prompt": [f"p{n % 30}" for n in range(100)],
            "response_a": ["x" * (2 + n // 30 * 50 + n % 30) for n in range(100)],
            "response_b": ["y"] * 100,
            "model_b": [str(n) for n in range(100)],
        }
    )
    votes = [
        {"ref": str(n), "annotator_id": who, "annotator_kind": "human", "label": "b" if who == "w" else "a"}
        for n in range(100)
        for who in "uvw"
    ]
    ingest(store, [Batch("pairs", pairs), Batch("annotations", pl.DataFrame(votes))])
    return store


MAJORITY: dict[str, Any] = {"aggregate": {"majority": {}}}
MARGIN: dict[str, Any] = {"signal": {"length_margin": {}}}


def kept(store: Store, key: str) -> list[tuple[str, str]]:
    """Prompt and item of what a filter kept."""
    return store.rows(
        """SELECT json_extract_string(pr.messages, '$[0].content'), i.item_id FROM decisions d
           JOIN items i ON i.subject = d.pair_id AND i.kind = 'pair'
           JOIN pairs p ON p.id = d.pair_id JOIN prompts pr ON pr.id = p.prompt_id WHERE d.key = ? AND d.reason IS NULL""",
        [key],
    )


@pytest.mark.parametrize(("fraction", "most"), [(0.57, 57), (0.07, 7), (0.001, 1), (1.0, 100), (0.999, 99)])
def test_keep_fraction_keeps_what_it_says(store: Store, fraction: float, most: int) -> None:
    """0.57 * 100 is 56.99999999999999 in floating point and means 57."""
    key = run(store, MAJORITY, MARGIN, {"filter": {"keep_fraction": {"by": "length_margin", "fraction": fraction}}})
    found = kept(store, key)
    assert len(found) == most
    longest = sorted(range(100), key=lambda n: n // 30 * 50 + n % 30, reverse=True)[:most]
    assert {int(item) for _, item in found} == set(longest)


def test_keep_fraction_of_equals_goes_by_pair_id(store: Store) -> None:
    key = run(store, MAJORITY, {"filter": {"keep_fraction": {"by": "votes", "fraction": 0.1}}})
    smallest = store.rows("SELECT id FROM pairs ORDER BY id LIMIT 10")
    assert sorted(store.rows("SELECT pair_id FROM decisions WHERE key = ? AND reason IS NULL", [key])) == sorted(smallest)


def test_every_group_keeps_one(store: Store) -> None:
    key = run(store, MAJORITY, MARGIN, {"filter": {"keep_fraction": {"by": "length_margin", "fraction": 0.2, "group": "prompt_id"}}})
    assert sorted(prompt for prompt, _ in kept(store, key)) == sorted(f"p{n}" for n in range(30))


@pytest.mark.parametrize("highest", [True, False])
def test_one_per_prompt(store: Store, highest: bool) -> None:
    key = run(store, MAJORITY, MARGIN, {"filter": {"one_per_prompt": {"by": "length_margin", "highest": highest}}})
    groups = defaultdict(list)
    for n in range(100):
        groups[f"p{n % 30}"].append(n)
    best = max if highest else min
    assert {prompt: int(item) for prompt, item in kept(store, key)} == {prompt: best(members) for prompt, members in groups.items()}


def test_one_per_prompt_without_a_column(store: Store) -> None:
    key = run(store, {"filter": {"one_per_prompt": {}}})
    wanted = store.rows("SELECT min(id) FROM pairs GROUP BY prompt_id")
    assert sorted(store.rows("SELECT pair_id FROM decisions WHERE key = ? AND reason IS NULL", [key])) == sorted(wanted)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"keep_fraction": {"by": "lenght_margin", "fraction": 0.5}}, "unknown column 'lenght_margin' .* Did you mean 'length_margin'"),
        ({"keep_fraction": {"by": 'x" OR "1', "fraction": 0.5}}, "unknown column"),
        ({"keep_fraction": {"by": "margin", "fraction": 0}}, "fraction is 0.* a share above 0 and at most 1"),
        ({"one_per_prompt": {"by": "nothing"}}, "unknown column 'nothing'"),
        ({"where": {"keep": "margin >"}}, r"the expression 'margin >' is not SQL"),
        ({"where": {"keep": "margin > 0) or (true"}}, r"the expression 'margin > 0\) or \(true'"),
        ({"where": {"keep": "(SELECT true)"}}, r"the expression '\(SELECT true\)' holds a subquery"),
        ({"where": {"keep": "margn > 0"}}, "unknown column 'margn' .* Did you mean 'margin'"),
    ],
)
def test_filters_say_what_is_wrong(store: Store, step: dict[str, Any], words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        run(store, MAJORITY, MARGIN, {"filter": step})


def test_bradley_terry_wants_a_ridge(store: Store) -> None:
    with pytest.raises(PrefdataError, match=r"l2 is 0\.0; allowed: a number above 0"):
        run(store, {"aggregate": {"bradley_terry": {"l2": 0}}})


@pytest.mark.parametrize(
    ("of", "votes"), [(None, 3), (["u", "w"], 2), (["-w"], 2), (["human", "-u", "-v"], 1), (["llm"], None), (["human", "-human"], None)]
)
def test_whose_votes_count(store: Store, of: list[str] | None, votes: int | None) -> None:
    for method in ("majority", "bradley_terry"):
        key = run(store, {"aggregate": {method: {"of": of}}})
        assert store.rows("SELECT DISTINCT votes FROM labels WHERE key = ?", [key]) == ([] if votes is None else [(votes,)])


def test_random_draws_stay_when_the_pool_grows(store: Store) -> None:
    def drawn(seed: int, only: str) -> list[Any]:
        key = run(store, {"filter": {"where": {"keep": only}}}, {"acquire": {"random": {"n": 10}}}, seed=seed)
        return store.rows("SELECT pair_id FROM queue WHERE key = ? ORDER BY priority DESC", [key])

    whole, half = drawn(1, "true"), drawn(1, "a_chars > 60 or b_chars > 60")
    assert len(whole) == len(half) == 10
    assert [pair for pair in whole if pair in half] == [pair for pair in half if pair in whole]
    assert drawn(1, "true") == whole
    assert drawn(2, "true") != whole


def distance(one: list[str], two: list[str]) -> int:
    """Levenshtein, row by row."""
    row = list(range(len(two) + 1))
    for i, x in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(two, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


letters = st.text(alphabet="ab é猫\n", max_size=12)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(letters, letters), min_size=1, max_size=4))
def test_edit_distance_is_that_of_the_loop(pairs: list[tuple[str, str]]) -> None:
    rows = pl.DataFrame({"a_text": [a for a, _ in pairs], "b_text": [b for _, b in pairs]})
    chars = [distance(list(a), list(b)) / max(len(a), len(b), 1) for a, b in pairs]
    words = [distance(a.split(), b.split()) / max(len(a.split()), len(b.split()), 1) for a, b in pairs]
    assert edit_distance(rows)["edit_distance"].to_list() == pytest.approx(chars, abs=1e-6)
    assert edit_distance(rows, unit="words")["edit_distance"].to_list() == pytest.approx(words, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(given_text=st.text(alphabet="ab1é猫か_-. \n\t\u00a0", max_size=20))
def test_length_counts_as_python_does(given_text: str) -> None:
    found = length(pl.DataFrame({"text": [given_text]}))
    lines = given_text.count("\n") + bool(given_text) - given_text.endswith("\n")
    assert found.row(0) == (len(given_text), text.words(given_text), lines)


@settings(max_examples=100, deadline=None)
@given(
    scores=st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 2)), max_size=14),
    gap=st.integers(0, 3),
)
def test_best_worst_is_that_of_the_loop(scores: list[tuple[int, int | None, int]], gap: int) -> None:
    schema = {"prompt_id": pl.String, "response_id": pl.String, "score": pl.Float64, "text_hash": pl.Int64}
    rows = [{"prompt_id": f"p{p}", "response_id": f"r{n}", "score": s, "text_hash": t} for n, (p, s, t) in enumerate(scores)]
    wanted = set()
    for prompt in {row["prompt_id"] for row in rows}:
        group = [row for row in rows if row["prompt_id"] == prompt and row["score"] is not None]
        best = max(group, key=lambda row: row["score"], default=None)
        others = [row for row in group if best and row["score"] < best["score"] and row["text_hash"] != best["text_hash"]]
        worst = min(others, key=lambda row: row["score"], default=None)
        if best and worst and best["score"] - worst["score"] >= gap:
            wanted.add((best["response_id"], worst["response_id"]))
    made = best_worst(pl.DataFrame(rows, schema=schema), min_gap=gap)
    assert set(made.iter_rows()) == wanted
    assert made.height == len(wanted)


def test_best_worst_keeps_the_order_of_the_prompts() -> None:
    names = [f"p{n}" for n in range(200)]
    dice.Random(0).shuffle(names)
    rows = [{"prompt_id": p, "response_id": f"{p}-{s}", "score": float(s), "text_hash": s} for p in names for s in (1, 3, 2)]
    made = best_worst(pl.DataFrame(rows))
    assert made["first"].to_list() == [f"{p}-3" for p in names]
    assert made["second"].to_list() == [f"{p}-1" for p in names]


def test_refused_rows_of_two_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb")
    for folder, line in (("pairs", '{"prompt": "p", "chosen": "x"}'), ("votes", '{"prompt": "q", "rejected": "y"}')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_text(line + '\n{"prompt": "p", "chosen": "x", "rejected": "y"}\n')
    for _ in range(2):
        for folder in ("pairs", "votes"):
            (tmp_path / folder / "x.jsonl").open("a").write("\n")
            run(store, {"source": {"jsonl": {"path": str(tmp_path / folder / "x.jsonl"), "shape": "preference"}}})
    files = sorted(path.name for path in tmp_path.glob("*.rejects.jsonl"))
    assert files == ["votes-x.jsonl.rejects.jsonl", "x.jsonl.rejects.jsonl"]
    assert "pairs" in (tmp_path / "x.jsonl.rejects.jsonl").read_text()
    assert "votes" in (tmp_path / "votes-x.jsonl.rejects.jsonl").read_text()
