"""How far judges follow the order: counted from real stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import prefdata
from prefdata.core import stats
from prefdata.core.judged import order_bias
from prefdata.core.store import Store
from tests.golden_cases import fill
from tests.shelves.judges_llm_tools import TIE, A, B, judge, mock, pair, responses

PAIRS = {"pairs": [pair(f"q{n}", f"good {n}", f"bad {n}") for n in range(10)]}
FAIR = {f"\ngood {n}\n</response_{side}": said for n in range(10) for side, said in (("a", A), ("b", B))}


def one(store: Store, name: str, **options: Any) -> dict[str, Any]:
    (row,) = [row for row in order_bias(store, **options) if row["judge"] == name]
    return row


def test_an_empty_store_has_no_judges(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    fill(store, PAIRS)
    assert order_bias(store) == []


def test_flips_and_first_shown_by_hand(tmp_path: Path) -> None:
    """Of ten pairs three follow the position (the first twice), one is unreadable, one is a tie in both orders, five are fair.

    Asked in both orders and read: 9. Flips 3 of 9. Sides named: 9 x 2 - 2 = 16. The first shown is named once for each of the five
    fair ones, twice for two of the flips, never for the third: 5 + 4 = 9.
    """
    script = {"q0": A, "q1": A, "q2": B, "q3": "Hm.", "q4": TIE}
    rules = {f"\nuser: {prompt}\n": said for prompt, said in script.items()}
    store, report = judge(tmp_path, PAIRS, {"pairwise": {"ask": "critic"}}, critic=mock({"contains": {**rules, **FAIR}}))
    assert (report.done, report.failed) == (9, 1)
    row = one(store, "pairwise:critic")
    assert (row["verdicts"], row["a"] + row["b"], row["ties"], row["both_bad"]) == (9, 5, 4, 0)
    assert (row["in_both"], row["flips"], row["flip_rate"]) == (9, 3, 3 / 9)
    assert row["flip_interval"] == stats.wilson(3, 9)
    assert (row["sided"], row["first"], row["first_share"]) == (16, 9, 9 / 16)
    assert row["first_interval"] == stats.wilson(9, 16)
    assert (row["abstained"], row["failed"], row["cost"], row["jurors"], row["kind"]) == (0, 1, 0.0, 1, "llm")


def test_flips_that_became_abstentions_count_just_the_same(tmp_path: Path) -> None:
    script = {"q0": A, "q1": A, "q2": B}
    rules = {f"\nuser: {prompt}\n": said for prompt, said in script.items()}
    steps = [{"pairwise": {"ask": "critic", "on_flip": on_flip}} for on_flip in ("tie", "abstain")]
    store, report = judge(tmp_path, PAIRS, *steps, critic=mock({"contains": {**rules, **FAIR}}))
    assert (report.done, report.abstained) == (7, 3)
    tie, abstain = sorted(order_bias(store, every=True), key=lambda row: row["ties"], reverse=True)
    for name in ("in_both", "flips", "flip_rate", "flip_interval", "sided", "first", "first_share", "first_interval"):
        assert tie[name] == abstain[name], name
    assert (tie["flips"], tie["first"], tie["sided"]) == (3, 7 + 4, 20)
    assert (tie["verdicts"], abstain["verdicts"], abstain["abstained"]) == (10, 7, 3)


def test_one_order_alone_shows_a_preference_for_the_first_and_no_flips(tmp_path: Path) -> None:
    store, _ = judge(tmp_path, PAIRS, {"pairwise": {"ask": "critic", "both_orders": False}}, critic=mock(A))
    row = one(store, "pairwise:critic")
    assert (row["sided"], row["first"], row["first_share"]) == (10, 10, 1.0)
    assert (row["in_both"], row["flips"], row["flip_rate"], row["flip_interval"]) == (0, 0, None, None)


def test_jurors_are_told_apart_and_share_the_bill(tmp_path: Path) -> None:
    """fair never flips, first always does and abstains, lost is unreadable; every one of the 2 x 10 x 2 readable calls costs 3."""
    models: dict[str, Any] = {
        "fair": mock(
            {"contains": {key: {"text": said, "tokens_in": 3} for key, said in FAIR.items()}}, price={"input": 1_000_000, "output": 0}
        ),
        "first": mock({"text": A, "tokens_in": 3}, price={"input": 1_000_000, "output": 0}),
        "lost": mock("Hm."),
    }
    params = {"asks": list(models), "on_flip": "abstain", "unreadable": "leave_out"}
    store, report = judge(tmp_path, PAIRS, {"panel": params}, **models)
    assert report.done == 10
    fair, first, lost = (one(store, f"panel:{name}") for name in models)
    assert (fair["verdicts"], fair["flips"], fair["in_both"], fair["abstained"], fair["failed"]) == (10, 0, 10, 0, 0)
    assert (first["verdicts"], first["flips"], first["in_both"], first["abstained"], first["failed"]) == (0, 10, 10, 10, 0)
    assert (first["first_share"], fair["first_share"]) == (1.0, 0.5)
    assert (lost["verdicts"], lost["in_both"], lost["abstained"], lost["failed"]) == (0, 0, 0, 10)
    assert [row["jurors"] for row in (fair, first, lost)] == [3, 3, 3]
    assert [row["cost"] for row in (fair, first, lost)] == [120.0] * 3


def test_a_judge_that_never_could_be_read_is_listed(tmp_path: Path) -> None:
    store, _ = judge(tmp_path, PAIRS, {"pairwise": {"ask": "critic"}}, critic=mock("Hm."))
    (row,) = order_bias(store)
    assert (row["judge"], row["method"], row["verdicts"], row["failed"]) == ("pairwise", "pairwise", 0, 10)
    assert (row["kind"], row["first_share"], row["flip_rate"]) == (None, None, None)


def test_the_newest_way_of_asking_counts_unless_all_are_wanted(tmp_path: Path) -> None:
    steps = [{"pairwise": {"ask": "critic", "both_orders": both}} for both in (True, False)]
    store, report = judge(tmp_path, PAIRS, *steps, critic=mock(A))
    assert one(store, "pairwise:critic")["key"] == report.key
    assert [row["in_both"] for row in order_bias(store, every=True)] in ([10, 0], [0, 10])


def test_judges_of_lists_and_of_draws_show_their_orders(tmp_path: Path) -> None:
    """A list ranked as shown, in an order and its reverse, flips all three pairs; so do draws that always say A."""
    store = Store(tmp_path / "s.duckdb")
    fill(store, {"responses": responses("x", "y", "z")})
    steps = [{"listwise": {"ask": "lister", "gives": "pairs", "shuffles": 2}}, {"self_consistency": {"ask": "first", "n": 4}}]
    models = {"lister": mock('{"ranking": [[1], [2], [3]]}'), "first": mock(A)}
    prefdata.run({"models": models, "steps": [{"judge": step} for step in steps]}, store)
    for name in ("listwise:lister", "self_consistency:first"):
        row = one(store, name)
        assert (row["in_both"], row["flips"], row["sided"], row["first"]) == (3, 3, 6, 6), name


def test_judges_of_single_responses_have_no_order(tmp_path: Path) -> None:
    store, _ = judge(tmp_path, {"responses": responses("x", "y")}, {"pointwise": {"ask": "critic"}}, critic=mock("[[5]]"))
    assert order_bias(store) == []


def test_what_was_taken_back_does_not_count(tmp_path: Path) -> None:
    """A third response has its list ranked anew; the old verdict on the first two is retracted, three new ones count."""
    store = Store(tmp_path / "s.duckdb")
    replies = {"contains": {"3 responses to its": '{"ranking": [[1], [2], [3]]}'}, "default": '{"ranking": [[1], [2]]}'}
    recipe = {"models": {"lister": mock(replies)}, "steps": [{"judge": {"listwise": {"ask": "lister", "gives": "pairs"}}}]}
    fill(store, {"responses": responses("x", "y")})
    prefdata.run(recipe, store)
    fill(store, {"responses": responses("z")})
    prefdata.run(recipe, store)
    assert store.value("SELECT count(*) FROM annotations WHERE retracts IS NULL") == 4
    row = one(store, "listwise:lister")
    assert (row["verdicts"], row["sided"], row["first"]) == (3, 3, 3)
