"""The judges' figures, worked out by hand: gold, the frame of the file, orders, conventions, parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import prefdata
from prefdata.core import stats
from prefdata.core.errors import PrefdataError
from prefdata.core.judged import judge_figures
from prefdata.core.store import Store
from tests.golden_cases import fill
from tests.shelves.judges_llm_tools import A, B, judge, mock, pair, prefers


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


def labelled(item: str, label: str | None, kind: str = "gold", **more: Any) -> dict[str, Any]:
    """A pair with its label; the texts follow from the item, so that some stand the other way round in the store."""
    return {**pair(item, f"one {item}", f"two {item}"), "label": label, "annotator_kind": kind, **more}


def said(item: str, order: str | None, label: str | None, who: str = "m", **more: Any) -> dict[str, Any]:
    return {"source": "t", "ref": item, "annotator_id": who, "annotator_kind": "llm", "shown": order, "label": label, **more}


def one(store: Store, name: str = "m", **options: Any) -> dict[str, Any]:
    (row,) = [row for row in judge_figures(store, **options) if row["judge"] == name]
    return row


ITEMS = [f"q{n}" for n in range(8)]
AB = ["a", "a", "b", "b", "a", "tie", None, "a"]
BA = ["a", "b", "b", "a", "a", "tie", "a", None]
"""What was said of the items with a and with b shown first. Gold: a for the first four, b for the others."""


def imported(store: Store) -> None:
    fill(store, {"pairs": [labelled(item, "a" if n < 4 else "b") for n, item in enumerate(ITEMS)]})
    votes = zip(ITEMS, AB, BA, strict=True)
    fill(store, {"annotations": [row for item, ab, ba in votes for row in (said(item, "ab", ab), said(item, "ba", ba))]})
    swapped = store.rows("SELECT count(*) FILTER (swapped), count(*) FROM items WHERE kind = 'pair'")[0]
    assert 0 < swapped[0] < swapped[1], "the test needs pairs of both orientations"


def test_accuracy_by_order_by_hand(store: Store) -> None:
    """a first: q0, q1 right; q2, q3, q4, q5, q7 wrong; q6 unreadable: 2 of 7. b first: q0, q3 right of 7 (q7 unreadable).

    Mean 2/7. In both: q0 right, q1 to q5 not, q6 and q7 half unread: 1 of 6.
    """
    imported(store)
    row = one(store)
    got = {name: (found["right"], found["of"]) for name, found in row["accuracy"].items()}
    assert got == {"verdict": (4, 14), "ab": (2, 7), "ba": (2, 7), "mean": (4, 14), "both": (1, 6)}
    assert row["accuracy"]["ab"]["interval"] == stats.wilson(2, 7)
    assert row["accuracy"]["mean"]["share"] == pytest.approx(2 / 7)
    assert row["accuracy"]["mean"]["interval"] == pytest.approx(stats.wilson(2, 7)), "seven pairs and not fourteen verdicts"
    assert (row["verdicts"], row["a"], row["b"], row["ties"], row["failed"]) == (14, 8, 4, 2, 2)
    assert row["confusion"]["ab"] == {"a": {"a": 2, "b": 2}, "b": {"a": 2, "tie": 1, "unreadable": 1}}


def test_agreement_and_flips_by_hand(store: Store) -> None:
    """Read in both orders: q0 to q5. Same: q0, q2, q4, q5; flips: q1, q3. First shown: ab says a in q0, q1, q4, q7; ba says b in q1, q2."""
    imported(store)
    row = one(store)
    assert (row["in_both"], row["agree"], row["flips"]) == (6, 4, 2)
    assert (row["agreement"], row["agreement_interval"]) == (4 / 6, stats.wilson(4, 6))
    assert (row["flip_rate"], row["flip_interval"]) == (2 / 6, stats.wilson(2, 6))
    assert (row["first"], row["sided"]) == (6, 12)
    assert row["orders"]["unreadable"] == {"a": 1}
    assert row["orders"]["a"] == {"a": 2, "b": 1, "unreadable": 1}


def test_kappa_by_hand(store: Store) -> None:
    """With a first, read: gold a a a a b b b against a a b b a tie a. Observed 2/7; by chance (4 x 4 + 3 x 2) / 49 = 22/49.

    kappa = (14/49 - 22/49) / (1 - 22/49) = -8/27. Between orders, over six: observed 4/6; by chance (3 x 3 + 2 x 2 + 1) / 36.
    """
    imported(store)
    row = one(store)
    assert row["accuracy"]["ab"]["kappa"] == pytest.approx(-8 / 27)
    assert row["kappa_orders"] == pytest.approx((4 / 6 - 14 / 36) / (1 - 14 / 36))
    assert row["accuracy"]["mean"]["kappa"] == pytest.approx((row["accuracy"]["ab"]["kappa"] + row["accuracy"]["ba"]["kappa"]) / 2)
    assert row["accuracy"]["both"]["kappa"] is None


@pytest.mark.parametrize(("unreadable", "ab", "both"), [("leave_out", (2, 7), (1, 6)), ("wrong", (2, 8), (1, 8)), ("tie", (2, 8), (1, 8))])
def test_what_an_unreadable_verdict_counts_as(store: Store, unreadable: Any, ab: tuple[int, int], both: tuple[int, int]) -> None:
    imported(store)
    found = one(store, unreadable=unreadable)["accuracy"]
    assert [(found[name]["right"], found[name]["of"]) for name in ("ab", "both")] == [ab, both]


def test_an_unreadable_verdict_can_be_a_right_tie(store: Store) -> None:
    fill(store, {"pairs": [labelled("q0", "tie"), labelled("q1", "a")]})
    fill(store, {"annotations": [said("q0", "ab", None), said("q1", "ab", "a")]})
    got = {way: one(store, unreadable=way)["accuracy"]["ab"]["share"] for way in ("leave_out", "wrong", "tie")}
    assert got == {"leave_out": 1.0, "wrong": 0.5, "tie": 1.0}


def test_abstentions_are_no_mistakes(store: Store) -> None:
    fill(store, {"pairs": [labelled("q0", "a"), labelled("q1", "a")]})
    fill(store, {"annotations": [said("q0", "ab", "abstain"), said("q1", "ab", "a")]})
    row = one(store, unreadable="wrong")
    assert (row["accuracy"]["ab"]["right"], row["accuracy"]["ab"]["of"], row["abstained"], row["verdicts"]) == (1, 1, 1, 1)


def test_a_judge_that_ran_here_speaks_in_the_frame_of_the_file(tmp_path: Path) -> None:
    """It always says A: with a shown first that is a, with b first b, in terms of the file; the combined verdict is a tie."""
    rows = {"pairs": [labelled(item, "a" if n < 6 else "b") for n, item in enumerate(ITEMS)]}
    store, _ = judge(tmp_path, rows, {"pairwise": {"ask": "critic"}}, critic=mock(A))
    row = one(store, "pairwise:critic")
    got = {name: (found["right"], found["of"]) for name, found in row["accuracy"].items()}
    assert got == {"verdict": (0, 8), "ab": (6, 8), "ba": (2, 8), "mean": (8, 16), "both": (0, 8)}
    assert (row["flips"], row["in_both"], row["first_share"], row["verdicts"], row["ties"]) == (8, 8, 1.0, 8, 8)


def test_failed_and_withheld_rows_are_counted_with_their_gold(tmp_path: Path) -> None:
    """q0 and q1 flip and are withheld, q2 is unreadable, q3 is right in both orders; gold a everywhere."""
    rows = {"pairs": [labelled(f"q{n}", "a") for n in range(4)]}
    rules = {f"\nuser: q{n}\n": reply for n, reply in ((0, A), (1, B), (2, "Hm."))}
    replies = {"contains": {**rules, **prefers("one q3")["contains"]}}
    store, report = judge(tmp_path, rows, {"pairwise": {"ask": "critic", "on_flip": "abstain"}}, critic=mock(replies))
    assert (report.done, report.abstained, report.failed) == (1, 2, 1)
    row = one(store, "pairwise:critic")
    got = {name: (found["right"], found["of"]) for name, found in row["accuracy"].items()}
    assert got == {"verdict": (1, 1), "ab": (2, 3), "ba": (2, 3), "mean": (4, 6), "both": (1, 3)}
    wrong = one(store, "pairwise:critic", unreadable="wrong")["accuracy"]
    assert [(wrong[name]["right"], wrong[name]["of"]) for name in ("verdict", "ab", "ba")] == [(1, 2), (2, 4), (2, 4)]
    assert (row["flips"], row["in_both"], row["failed"], row["abstained"]) == (2, 3, 1, 2)


def test_scores_of_single_responses_are_verdicts_by_their_order(tmp_path: Path) -> None:
    """one scores 5 in three pairs and 3 in the fourth, two scores 3: right, right, right, a tie."""
    rows = {"pairs": [labelled(f"q{n}", "a") for n in range(4)]}
    replies = {"contains": {"\none q3\n": "[[3]]", "\none ": "[[5]]"}, "default": "[[3]]"}
    store, _ = judge(tmp_path, rows, {"pointwise": {"ask": "critic"}}, critic=mock(replies))
    row = one(store, "pointwise:critic")
    assert (row["accuracy"]["verdict"]["right"], row["accuracy"]["verdict"]["of"], row["ties"]) == (3, 4, 1)
    assert (row["accuracy"]["ab"], row["in_both"], row["first_share"], row["of_pairs"]) == (None, 0, None, False)


def test_gold_may_be_somebody_else(store: Store) -> None:
    """Three people vote: most of them say b of q0, they are split over q1, nobody voted on q2."""
    fill(store, {"pairs": [labelled(f"q{n}", "a") for n in range(3)]})
    people = [("q0", "b", "u"), ("q0", "b", "v"), ("q0", "a", "w"), ("q1", "a", "u"), ("q1", "b", "v")]
    votes = [said(item, None, label, who, annotator_kind="human") for item, label, who in people]
    fill(store, {"annotations": [*votes, *(said(f"q{n}", "ab", "b") for n in range(3))]})
    counts = {
        gold: (found["right"], found["of"])
        for gold in ("gold", "human", "u", "w")
        for found in [one(store, gold=gold)["accuracy"]["verdict"]]
    }
    assert counts == {"gold": (0, 3), "human": (1, 1), "u": (1, 2), "w": (0, 1)}
    assert one(store, gold=None)["accuracy"]["verdict"] is None
    assert judge_figures(store, gold="m") == [], "who is the gold is not measured"
    with pytest.raises(PrefdataError, match=r"unknown annotator 'humna'.*Did you mean 'human'"):
        judge_figures(store, gold="humna")


def test_labels_of_machines_and_of_nobody_in_particular_are_no_gold(store: Store) -> None:
    fill(
        store, {"pairs": [labelled("q0", "a", "llm"), labelled("q1", "a", "imported"), labelled("q2", "a", "human"), labelled("q3", None)]}
    )
    fill(store, {"annotations": [said(f"q{n}", "ab", "a") for n in range(4)]})
    found = one(store)
    assert (found["accuracy"]["verdict"]["right"], found["accuracy"]["verdict"]["of"], found["verdicts"]) == (1, 1, 4)


def test_a_pair_that_stands_in_the_file_twice_with_its_sides_exchanged(store: Store) -> None:
    """The same two texts as x and, exchanged, as y: one pair in the store, two rows with their own verdicts, both right."""
    twice = [labelled("x", "a"), {**labelled("y", "b"), "prompt": "x", "response_a": "two x", "response_b": "one x"}]
    fill(store, {"pairs": twice})
    assert store.value("SELECT count(*) FROM pairs") == 1
    votes = [("x", "ab", "a"), ("x", "ba", "a"), ("y", "ab", "b"), ("y", "ba", "a")]
    fill(store, {"annotations": [said(*vote) for vote in votes]})
    row = one(store)
    got = {name: (found["right"], found["of"]) for name, found in row["accuracy"].items()}
    assert got == {"verdict": (3, 4), "ab": (2, 2), "ba": (1, 2), "mean": (3, 4), "both": (1, 2)}
    assert (row["in_both"], row["flips"]) == (2, 1)


def test_repeated_verdicts_pair_up_by_order(store: Store) -> None:
    """Two draws in each order: the first of either with the first, the second with the second."""
    fill(store, {"pairs": [labelled("q0", "a")]})
    fill(store, {"annotations": [said("q0", order, "a", sample=k) for order in ("ab", "ba") for k in range(2)]})
    row = one(store)
    assert (row["in_both"], row["agree"], row["accuracy"]["ab"]["of"], row["verdicts"]) == (2, 2, 2, 4)


def test_parts(store: Store) -> None:
    """A vote does not say its subset: its pair does."""
    fill(store, {"pairs": [labelled(f"q{n}", "a", subset="easy" if n < 2 else "hard") for n in range(3)]})
    fill(store, {"annotations": [said(f"q{n}", "ab", "b" if n == 2 else "a") for n in range(3)]})
    got = {row["subset"]: (row["accuracy"]["ab"]["right"], row["accuracy"]["ab"]["of"]) for row in judge_figures(store, by="subset")}
    assert got == {"easy": (2, 2), "hard": (0, 1)}
    assert [row["source"] for row in judge_figures(store, by="source")] == ["t"]
    assert {row["cost"] for row in judge_figures(store, by="subset")} == {None}
    with pytest.raises(PrefdataError, match="allowed: subset or source"):
        judge_figures(store, by="colour")  # type: ignore[arg-type]


def test_parts_of_a_judge_that_ran_here(tmp_path: Path) -> None:
    rows = {"pairs": [labelled(f"q{n}", "a", subset="easy" if n < 2 else "hard") for n in range(3)]}
    replies = {"contains": {"\nuser: q2\n": "Hm.", **prefers("one q0")["contains"], **prefers("two q1")["contains"]}}
    store, _ = judge(tmp_path, rows, {"pairwise": {"ask": "critic"}}, critic=mock(replies))
    easy, hard = sorted(judge_figures(store, by="subset"), key=lambda row: row["subset"])
    assert (easy["accuracy"]["verdict"]["share"], easy["failed"]) == (0.5, 0)
    assert (hard["accuracy"]["verdict"], hard["failed"]) == (None, 1)


def test_a_retracted_verdict_does_not_count(store: Store) -> None:
    imported(store)
    assert one(store)["verdicts"] == 14
    with store.write() as db:
        db.execute(
            """INSERT INTO annotations BY NAME SELECT uuid() AS id, subject, kind, annotator_id, annotator_kind, id AS retracts
               FROM annotations WHERE annotator_id = 'm' AND choice = 'tie'"""
        )
    assert (one(store)["verdicts"], one(store)["ties"]) == (12, 0)


def test_rules_are_judges_without_an_order(store: Store) -> None:
    """A program's verdicts have a gold to be compared with like any other's."""
    rows = [{"source": "t", "item_id": f"q{n}", "prompt": f"What is {n} + 1?", "response_a": f"{n + 1}", "response_b": "0", "label": "a",
             "annotator_kind": "gold", "prompt_meta": f'{{"answer": "{n + 1}"}}'} for n in range(3)]  # fmt: skip
    for row in rows:
        row["meta"] = row.pop("prompt_meta")
    fill(store, {"pairs": rows})
    prefdata.run({"steps": [{"judge": {"math_answer": {}}}]}, store)
    row = one(store, "math_answer")
    assert (row["kind"], row["accuracy"]["verdict"]["right"], row["accuracy"]["verdict"]["of"]) == ("verifier", 3, 3)
