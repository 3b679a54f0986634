"""`prefdata judges`: one table, its conventions, what it says where something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import HOSTILE, call, refused, write


def vote(item: str, order: str, label: str | None, who: str = "critic", method: str = "plain") -> dict[str, object]:
    return {"source": "toys", "item_id": item, "judge": who, "method": method, "order": order, "label": label}


@pytest.fixture
def judged(here: Path) -> Path:
    """Four pairs with gold a; the critic is right in 3 of 4 with a first, in 2 of 3 with b first, where one reply is unreadable."""
    pairs = [
        {"source": "toys", "subset": "odd" if n % 2 else "even", "item_id": f"item/{n}", "prompt": f"question {n}?",
         "response_a": f"good {n}", "response_b": f"bad {n}", "label": "a", "label_kind": "gold"} for n in range(4)
    ]  # fmt: skip
    said = [("a", "a"), ("a", "b"), ("a", "a"), ("b", None)]
    votes = [vote(f"item/{n}", order, label) for n, both in enumerate(said) for order, label in zip(("ab", "ba"), both, strict=True)]
    write(here / "pairs.jsonl", pairs)
    write(here / "judgments.jsonl", votes)
    for name in ("pairs", "judgments"):
        assert call("import", f"{name}.jsonl").code == 0
    return here


def line(out: str, *words: str) -> list[str]:
    (found,) = [one.split() for one in out.splitlines() if all(word in one for word in words)]
    return found


def test_one_line_for_each_judge(judged: Path) -> None:
    got = call("judges")
    assert got.code == 0
    assert line(got.out, "critic/plain") == [
        "critic/plain", "7", "0.750", "0.667", "0.708", "0.23-0.95", "0.667", "0.333", "0.06-0.79", "0.571", "0.25-0.84", "0", "1",
    ]  # fmt: skip
    assert got.last == "next: prefdata judges --by subset"
    assert "share that is the gold label" in got.out


def test_what_an_unreadable_reply_counts_as(judged: Path) -> None:
    shares = {way: line(call("judges", "--unreadable", way).out, "critic/plain")[3] for way in ("leave_out", "wrong", "tie")}
    assert shares == {"leave_out": "0.667", "wrong": "0.500", "tie": "0.500"}


def test_by_subset_is_a_table_each(judged: Path) -> None:
    out = call("judges", "--by", "subset").out
    assert out.index("subset even") < out.index("subset odd")
    assert out.count("critic/plain") == 2


def test_json_says_everything(judged: Path) -> None:
    (row,) = call("judges", "--json").json
    assert (row["accuracy"]["ab"]["right"], row["accuracy"]["ab"]["of"], row["flips"], row["in_both"]) == (3, 4, 1, 3)
    assert row["confusion"]["ba"] == {"a": {"a": 2, "b": 1, "unreadable": 1}}
    assert row["orders"] == {"a": {"a": 2, "b": 1}, "b": {"unreadable": 1}}


def test_gold_by_name(judged: Path) -> None:
    write(judged / "people.jsonl", [{"source": "toys", "item_id": "item/0", "annotator_id": "ann", "label": "b"}])
    assert call("import", "people.jsonl").code == 0
    assert line(call("judges", "--gold", "ann").out, "critic/plain")[2:4] == ["0.000", "0.000"]
    assert "Did you mean 'ann'" in refused("judges", "--gold", "anne")


def test_without_gold_the_orders_still_count(judged: Path) -> None:
    """A second store whose pairs carry no label."""
    rows = [json.loads(text) for text in (judged / "pairs.jsonl").read_text().splitlines()]
    write(judged / "bare.jsonl", [{**row, "label": None} for row in rows])
    for name in ("bare", "judgments"):
        assert call("import", f"{name}.jsonl", "--store", "bare.duckdb").code == 0
    got = call("judges", "--store", "bare.duckdb")
    assert "--gold ANNOTATOR" in got.err
    assert "right" not in line(got.out, "judge", "verdicts")
    assert line(got.out, "critic/plain")[2:5] == ["0.667", "0.333", "0.06-0.79"]


def test_a_store_without_judges_says_what_to_do(filled: Path) -> None:
    got = call("judges")
    assert got.code == 0
    assert "no machine has judged" in got.out
    assert "prefdata methods judges" in got.last
    assert call("judges", "--json").json == []


def test_a_missing_store_and_a_wrong_word_are_one_sentence(here: Path) -> None:
    assert "no store at" in refused("judges")
    assert call("judges", "--by", "colour").code == 2


def test_a_hostile_name_is_harmless(judged: Path) -> None:
    write(judged / "more.jsonl", [vote("item/0", "ab", "a", who=HOSTILE)])
    assert call("import", "more.jsonl").code == 0
    out = call("judges").out
    assert "␛[31mred" in out
    assert not any(sign in out for sign in ("\x1b", "\x07", "\u202e"))


def test_help_has_an_example() -> None:
    out = call("judges", "--help").out
    assert "Example" in out
    assert "prefdata judges" in out
