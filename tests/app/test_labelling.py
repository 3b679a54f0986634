"""Handing out and taking answers: order, overlap, leases, retractions, two people and two processes at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from app_helpers import ROOT, make_store

from prefdata.core import labelling, screens
from prefdata.core.desk import Desk
from prefdata.core.errors import BadValue
from prefdata.core.labelling import LabelTask, Seat, claim, fetch, next_pair, progress, record, side, undo
from prefdata.core.store import Store

LIVE = "SELECT subject::VARCHAR, annotator_id, choice, strength, shown, scores, rationale, seconds FROM live_annotations ORDER BY created"


def ids(store: Store) -> list[str]:
    return [str(row[0]) for row in store.rows("SELECT id FROM pairs ORDER BY rowid")]


def ask(store: Store, rows: list[tuple[str, float]], key: str = "q") -> None:
    with store.write() as db:
        for pair, priority in rows:
            db.execute("INSERT INTO queue VALUES (?, ?, 'human', ?, 'unsure')", [pair, key, priority])


def answer_all(store: Store, who: str, overlap: int = 1) -> list[str]:
    desk = Desk(store, Seat(who, overlap))
    seen = []
    while task := desk.current():
        seen.append(task.pair_id)
        assert desk.answer(task, "left")
    return seen


def test_pairs_come_in_the_store_s_order_and_never_twice(store: Store) -> None:
    assert answer_all(store, "anna") == ids(store)
    assert next_pair(store, "anna") is None


def test_the_queue_goes_first_by_priority_and_alone(store: Store) -> None:
    every = ids(store)
    ask(store, [(every[7], 0.1), (every[2], 0.9), (every[5], 0.5)])
    ask(store, [(every[2], 0.3)], key="another")
    assert answer_all(store, "anna") == [every[2], every[5], every[7]]
    beyond = claim(store, Seat("anna", beyond=True), 60)
    assert [pair for pair, _ in beyond.pairs] == [pair for pair in every if pair not in (every[2], every[5], every[7])]


def test_an_outdated_queue_of_the_same_method_is_left_alone(store: Store) -> None:
    every = ids(store)
    ask(store, [(every[1], 1.0)], key="old")
    ask(store, [(every[3], 0.2)], key="new")
    with store.write() as db:
        for key, used in (("old", "2026-01-01"), ("new", "2026-01-02")):
            db.execute("INSERT INTO steps (key, shelf, method, used) VALUES (?, 'acquire', 'unsure', ?::TIMESTAMP)", [key, used])
    task = next_pair(store, "anna")
    assert task
    assert (task.pair_id, task.reason) == (every[3], "unsure")


def test_a_queued_pair_that_is_not_in_the_store_holds_nobody_up(store: Store) -> None:
    ask(store, [("00000000-0000-0000-0000-000000000001", 1.0), (ids(store)[0], 0.5)])
    assert answer_all(store, "anna") == [ids(store)[0]]


@pytest.mark.parametrize("overlap", [1, 2])
def test_overlap_is_how_many_people_answer_one_pair(store: Store, overlap: int) -> None:
    given = [answer_all(store, who, overlap) for who in ("anna", "ben", "carla")]
    assert [len(pairs) for pairs in given] == [10] * overlap + [0] * (3 - overlap)


def test_two_people_at_work_get_different_pairs_until_leases_expire(store: Store) -> None:
    first = claim(store, Seat("anna", lease=0.3), 4)
    second = claim(store, Seat("ben"), 60)
    assert not {p for p, _ in first.pairs} & {p for p, _ in second.pairs}
    assert len(second.pairs) == 6
    time.sleep(0.4)
    assert {p for p, _ in claim(store, Seat("ben", desk="later"), 60).pairs} >= {p for p, _ in first.pairs}


def test_a_second_tab_gets_other_pairs_and_a_reloaded_one_the_same(store: Store) -> None:
    first = claim(store, Seat("anna", desk="one"), 5).pairs
    assert not {p for p, _ in first} & {p for p, _ in claim(store, Seat("anna", desk="two"), 5).pairs}
    assert claim(store, Seat("anna", desk="one"), 5).pairs == first


def test_what_a_closed_tab_held_comes_back_at_the_end(store: Store) -> None:
    claim(store, Seat("anna", desk="closed"), 3)
    assert sorted(answer_all(store, "anna")) == sorted(ids(store))


def test_sides_are_drawn_per_person_and_pair_and_recorded(store: Store) -> None:
    orders = [side("anna", pair) for pair in map(str, range(400))]
    assert 150 < orders.count("ab") < 250
    assert orders != [side("ben", pair) for pair in map(str, range(400))]
    task = next_pair(store, "anna")
    assert task
    assert task.shown == side("anna", task.pair_id)
    record(store, "anna", task, "right", strength=0.5, aspects={"Clear": "left", "Short": "tie"}, rationale=" why ", seconds=2.5, flag=True)
    pair, who, choice, strength, shown, scores, rationale, seconds = store.rows(LIVE)[0]
    right, left = task.shown[1], task.shown[0]
    assert (pair, who, choice, shown, rationale, seconds) == (task.pair_id, "anna", right, task.shown, "why", 2.5)
    assert strength == (0.5 if right == "a" else -0.5)
    assert json.loads(scores) == {"aspects": {"Clear": 1 if left == "a" else -1, "Short": 0}, "flag": True}


def test_left_and_right_are_the_texts_that_were_stored(store: Store) -> None:
    for task in fetch(store, "anna", [(pair, None) for pair in ids(store)]):
        found = store.rows(
            "SELECT ra.text, rb.text FROM pairs p JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b WHERE p.id = ?",
            [task.pair_id],
        )[0]
        assert (task.a, task.b) == found
        assert {task.stored("left"), task.stored("right")} == {"a", "b"}
        assert (task.left == task.a) == (task.stored("left") == "a")


def test_answering_twice_stores_once(store: Store) -> None:
    task = next_pair(store, "anna")
    assert task
    assert record(store, "anna", task, "left")
    assert not record(store, "anna", task, "right")
    again = fetch(store, "anna", [(task.pair_id, None)])[0]
    assert not record(store, "anna", again, "tie")
    assert len(store.rows(LIVE)) == 1


def test_undo_is_a_retraction_and_the_pair_comes_back(store: Store) -> None:
    desk = Desk(store, Seat("anna"))
    first = desk.current()
    assert first
    desk.answer(first, "left", strength=1.0)
    assert desk.undo()
    back = desk.current()
    assert back
    assert (back.pair_id, desk.done.answered) == (first.pair_id, 0)
    assert desk.answer(back, "tie")
    assert [row[2] for row in store.rows(LIVE)] == ["tie"]
    assert store.value("SELECT count(*) FROM annotations") == 3  # the answer, its retraction, the new answer
    assert [desk.undo(), desk.undo()] == [True, False]


def test_an_earlier_answer_can_be_changed_from_the_history(store: Store) -> None:
    desk = Desk(store, Seat("anna"))
    for choice in ("left", "right", "both_bad"):
        task = desk.current()
        assert task
        desk.answer(task, choice)  # type: ignore[arg-type]
    said = screens.history(store, "anna")
    assert [row["choice"] for row in said] == ["both_bad", "right", "left"]
    assert desk.undo(str(said[1]["id"]))
    assert [row["choice"] for row in screens.history(store, "anna")] == ["both_bad", "left"]
    current = desk.current()
    assert current
    assert current.pair_id == str(said[1]["pair_id"])


def test_a_task_answered_again_after_its_undo_counts(store: Store) -> None:
    task = next_pair(store, "anna")
    assert task
    for choice in ("left", "right", "tie"):
        assert record(store, "anna", task, choice)  # type: ignore[arg-type]
        assert [row[2] for row in store.rows(LIVE)] == [task.stored(choice)]
        assert undo(store, Seat("anna"))
    assert store.value("SELECT count(DISTINCT id) FROM annotations") == 6


def test_nobody_undoes_another_s_answer(store: Store) -> None:
    task = next_pair(store, "anna")
    assert task
    record(store, "anna", task, "left")
    assert undo(store, Seat("ben")) is None
    assert undo(store, Seat("ben"), task.id) is None


def test_skipping_is_an_abstention_that_leaves_the_pair_to_others(store: Store) -> None:
    desk = Desk(store, Seat("anna"))
    task = desk.current()
    assert task
    desk.answer(task, "abstain")
    assert (desk.done.skipped, desk.done.answered) == (1, 0)
    assert task.pair_id in answer_all(store, "ben")


def test_progress_counts_and_takes_the_median(store: Store) -> None:
    desk = Desk(store, Seat("anna"))
    for seconds in (1.0, 9.0, 2.0):
        task = desk.current()
        assert task
        desk.answer(task, "tie", seconds=seconds)
    assert desk.left == 7
    assert progress(store, "anna") == labelling.Progress(answered=3, skipped=0, today=3, seconds=2.0)


def test_a_final_word_replaces_the_reviewer_s_earlier_one_and_is_no_vote(store: Store) -> None:
    pair = ids(store)[0]
    for who, choice in (("anna", "left"), ("ben", "tie")):
        record(store, who, fetch(store, who, [(pair, None)])[0], choice)  # type: ignore[arg-type]
    assert [(str(row["pair_id"]), row["decided"]) for row in screens.disputes(store)] == [(pair, False)]
    task = fetch(store, "lea", [(pair, None)])[0]
    for choice in ("tie", "right", "tie", "left"):
        assert record(store, "lea", task, choice, review=True)  # type: ignore[arg-type]
    assert screens.disputes(store) == []
    decided = screens.disputes(store, "decided")
    assert [(row["votes"], row["decided"]) for row in decided] == [(2, True)]
    assert [vote["role"] for vote in screens.votes(store, pair)].count("review") == 1
    assert screens.agreement(store, ["human"]).pairs == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"choice": "middle"}, "both_bad"), ({"strength": 2.0}, "at most 1")],
)
def test_bad_values_are_refused_with_what_is_allowed(store: Store, bad: dict[str, object], words: str) -> None:
    task = next_pair(store, "anna")
    assert task
    with pytest.raises(BadValue, match=words):
        record(store, "anna", task, **{"choice": "left", **bad})  # type: ignore[arg-type]
    assert store.rows(LIVE) == []


def test_a_machine_judge_s_name_is_not_a_person_s(store: Store) -> None:
    with store.write() as db:
        db.execute("INSERT INTO annotators VALUES ('gpt', 'llm', 'gpt', NULL)")
    with pytest.raises(BadValue, match="a name of your own"):
        next_pair(store, "gpt")
    with pytest.raises(BadValue, match="1 or more"):
        next_pair(store, "anna", overlap=0)


def test_a_desk_refills_in_the_background_and_drops_what_it_no_longer_holds(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.duckdb", 80)
    desk = Desk(store, Seat("anna", lease=3600))
    for _ in range(50):
        task = desk.current()
        assert task
        assert desk.answer(task, "left")
    assert store.value("SELECT count(DISTINCT subject) FROM live_annotations") == 50
    late = Desk(store, Seat("ben", lease=0.05))
    waiting = late.current()
    time.sleep(0.1)
    others = claim(store, Seat("carla"), 60).pairs
    assert waiting
    assert waiting.pair_id in {pair for pair, _ in others}
    current = late.current()
    assert current is None or current.pair_id not in {pair for pair, _ in others}
    assert not late.answer(LabelTask("x", "y", (), "", "", "ab"), "left")


def test_an_answer_reaches_the_one_file_by_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the file alone holds every answer a moment after the last; before that the log beside it does."""
    monkeypatch.setattr("prefdata.core.desk.FOLD", 0.2)
    desk = Desk(store, Seat("anna"))
    for _ in range(3):
        task = desk.current()
        assert task
        desk.answer(task, "left")
    log = Path(f"{store.path}.wal")
    assert log.exists()
    assert len(store.rows(LIVE)) == 3
    deadline = time.monotonic() + 20
    while log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    copy = store.path.with_name("copy.duckdb")
    copy.write_bytes(store.path.read_bytes())
    assert len(Store(copy).rows(LIVE)) == 3


WORKER = """
import sys
from prefdata.core.desk import Desk
from prefdata.core.labelling import Seat
from prefdata.core.store import Store
desk = Desk(Store(sys.argv[1]), Seat(sys.argv[2], overlap=2, desk=sys.argv[3]))
while task := desk.current():
    if desk.answer(task, "left", seconds=0.1):
        print(desk.seat.annotator, task.pair_id, flush=True)
"""


def start(store: Store, who: str, tab: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(store.path), who, tab]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_processes_at_once_lose_nothing_and_duplicate_nothing(tmp_path: Path) -> None:
    """Two people, one of them in two tabs; one tab is killed in the middle and its place taken again."""
    store = make_store(tmp_path / "s.duckdb", 40)
    killed = start(store, "anna", "one")
    others = [start(store, "anna", "two"), start(store, "ben", "one")]
    assert killed.stdout
    acknowledged = [killed.stdout.readline().strip() for _ in range(5)]
    killed.send_signal(signal.SIGKILL)
    acknowledged += killed.communicate()[0].splitlines()
    for process in others:
        acknowledged += process.communicate(timeout=120)[0].splitlines()
        assert process.returncode == 0
    rows = [f"{who} {pair}" for who, pair in store.rows("SELECT annotator_id, subject FROM annotations")]
    assert set(acknowledged) <= set(rows)
    assert len(set(rows)) == len(rows)
    answer_all(store, "anna", overlap=2)
    assert store.rows("SELECT annotator_id, count(*) FROM annotations GROUP BY 1 ORDER BY 1") == [("anna", 40), ("ben", 40)]
