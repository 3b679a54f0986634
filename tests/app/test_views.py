"""Every view on a real store, by Streamlit's own test runner."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from app_helpers import HOSTILE, ROOT, button, make_store, words
from streamlit.testing.v1 import AppTest

from prefdata.core import lock
from prefdata.core.labelling import fetch, record
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store

OpenApp = Callable[..., AppTest]
VIEWS = ("label", "review", "dashboard", "explore", "runs")
ANSWERS = "SELECT choice, strength, shown, scores, rationale, seconds, subject::VARCHAR FROM live_annotations ORDER BY created"


def answer(store: Store, who: str, choices: str, *, flag: bool = False) -> None:
    """One letter per pair in the store's order: l(eft), r(ight), t(ie), b(oth bad)."""
    pairs = [(str(row[0]), None) for row in store.rows("SELECT id FROM pairs ORDER BY rowid LIMIT ?", [len(choices)])]
    names = {"l": "left", "r": "right", "t": "tie", "b": "both_bad"}
    for task, letter in zip(fetch(store, who, pairs), choices, strict=True):
        record(store, who, task, names[letter], seconds=4.0, flag=flag, rationale=f"{who} says <b>so</b>")  # type: ignore[arg-type]


@pytest.fixture
def judged(store: Store) -> Store:
    answer(store, "anna", "lrtlrb")
    answer(store, "ben", "rrttlb")
    return store


@pytest.mark.parametrize(
    ("label", "choice", "strength"),
    [("A is better", 0, None), ("B is better", 1, None), ("A much better", 0, 1.0), ("A a little better", 0, 0.5),
     ("B a little better", 1, 0.5), ("B much better", 1, 1.0), ("Tie", "tie", None), ("Same", "tie", None),
     ("Both bad", "both_bad", None), ("Skip", "abstain", None)],
)  # fmt: skip
def test_every_button_stores_its_answer_as_the_pair_knows_it(
    store: Store, open_app: OpenApp, label: str, choice: int | str, strength: float | None
) -> None:
    app = open_app(store.path)
    button(app, label).click().run()
    stored, signed, shown, _, _, seconds, _ = store.rows(ANSWERS)[0]
    assert stored == (shown[choice] if isinstance(choice, int) else choice)
    assert signed == (None if strength is None else strength if stored == "a" else -strength)
    assert seconds > 0
    assert ("1 today" in str(app.get("progress")[0].proto)) == (label != "Skip")


def test_keys_are_on_the_buttons_and_no_two_are_the_same(store: Store, open_app: OpenApp) -> None:
    keys = {b.label: b.proto.shortcut.lower() for b in open_app(store.path).button if b.proto.shortcut}
    assert {
        "A is better": "a",
        "Tie": "t",
        "B is better": "b",
        "Both bad": "x",
        "Skip": "s",
        "Flag": "f",
        "Undo": "u",
    }.items() <= keys.items()
    assert {keys[label] for label in ("A much better", "A a little better", "Same", "B a little better", "B much better")} == set("12345")
    assert len(set(keys.values())) == len(keys)
    assert "n" not in keys.values()


def test_comment_aspects_and_flag_go_with_the_answer_and_not_to_the_next_pair(store: Store, open_app: OpenApp) -> None:
    app = open_app(store.path)
    app.text_input[0].set_value("shorter")
    app.button_group[0].set_value("left")
    button(app, "Flag").click().run()
    assert button(app, "Flagged")
    button(app, "Tie").click().run()
    button(app, "Tie").click().run()
    (_, _, shown, scores, rationale, _, _), second = store.rows(ANSWERS)
    assert (json.loads(scores), rationale) == ({"aspects": {"Helpful": 1 if shown == "ab" else -1}, "flag": True}, "shorter")
    assert second[3:5] == (None, None)


def test_undo_and_the_history_bring_a_pair_back(store: Store, open_app: OpenApp) -> None:
    app = open_app(store.path)
    for label in ("A is better", "Tie"):
        button(app, label).click().run()
    first = store.rows(ANSWERS)[0]
    button(app, "Undo").click().run()
    assert [row[6] for row in store.rows(ANSWERS)] == [first[6]]
    button(app, "My answers").click().run()
    button(app, "Change").click().run()
    assert store.rows(ANSWERS) == []
    button(app, "B is better").click().run()
    assert [row[6] for row in store.rows(ANSWERS)] == [first[6]]


def test_names_of_models_are_nowhere_while_labelling_or_reviewing(judged: Store, open_app: OpenApp) -> None:
    for view in ("label", "review"):
        assert "secret-model" not in words(open_app(judged.path, view, who="carla"))
    assert "secret-model" in words(explored(judged, open_app))


def test_hostile_text_reaches_no_element_as_html_image_or_mark(tmp_path: Path, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDATA_OVERLAP", "4")
    store = make_store(tmp_path / "s.duckdb", len(HOSTILE), HOSTILE)
    app = open_app(store.path)
    for look in ("Formatted", "As written", "Differences"):
        app = open_app(store.path, who=look)
        button(app, look).click().run()
        for _ in HOSTILE:
            assert not app.exception
            for element in app.markdown:
                assert not element.allow_html
                assert not re.search(r"!\[|(?<!\\)<[a-z]|:red\[|:smile:", element.value), element.value[:300]
            button(app, "Tie").click().run()
        assert "Nothing is left for you" in words(app)
    assert not app.get("html")
    assert "unsafe_allow_html" not in "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))


def test_a_whole_conversation_with_an_image_of_its_own_and_a_remote_one(tmp_path: Path, open_app: OpenApp) -> None:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in (f"data:image/png;base64,{dot}", "http://192.0.2.1/p.png")]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, *pictures]},
        {"role": "assistant", "content": "A dot."}, {"role": "user", "content": "Sure?"},
    ]  # fmt: skip
    store = make_store(tmp_path / "s.duckdb", 1)
    with store.write() as db:
        db.execute("UPDATE prompts SET messages = ?", [json.dumps(messages)])
    app = open_app(store.path)
    for said in ("Be brief.", "What is it?", "A dot.", "Sure?", "image not loaded"):
        assert said in words(app)
    assert len(app.get("image")) == 1


def test_guidelines_beside_the_store_are_at_hand(store: Store, open_app: OpenApp) -> None:
    assert "No guidelines yet" in words(open_app(store.path))
    (store.path.parent / "guidelines.md").write_text("# Prefer the shorter\n<b>truth</b>")
    assert "Prefer the shorter" in words(open_app(store.path))


def test_a_name_is_asked_once_and_a_strange_one_refused(store: Store, open_app: OpenApp) -> None:
    app = open_app(store.path, who=None)
    assert "Who is labelling?" in words(app)
    app.text_input[0].set_value("<b>x</b>")
    button(app, "Start").click().run()
    assert "letters, digits" in words(app)
    app.text_input[0].set_value("Änne B.")
    button(app, "Start").click().run()
    button(app, "Tie").click().run()
    assert store.value("SELECT annotator_id FROM annotations") == "Änne B."
    assert app.query_params["annotator"] == "Änne B."


def test_a_person_in_the_address_needs_no_asking(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDATA_STORE", str(store.path))
    monkeypatch.delenv("PREFDATA_ANNOTATOR", raising=False)
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=30)
    app.query_params["annotator"] = "dora"
    app.run()
    button(app, "Tie").click().run()
    assert store.value("SELECT annotator_id FROM annotations") == "dora"


def test_when_all_is_answered_the_page_says_so_and_undo_still_works(tmp_path: Path, open_app: OpenApp) -> None:
    store = make_store(tmp_path / "s.duckdb", 2)
    with store.write() as db:
        db.execute("INSERT INTO queue SELECT id, 'k', 'human', 1, 'unsure' FROM pairs LIMIT 1")
    app = open_app(store.path)
    button(app, "Tie").click().run()
    assert "Nothing is left for you: you have answered 1 pairs" in words(app)
    button(app, "Undo the last answer").click().run()
    button(app, "Tie").click().run()
    button(app, "Go on with pairs nobody asked for").click().run()
    button(app, "Tie").click().run()
    assert "you have answered 2 pairs" in words(app)
    assert "prefdata run RECIPE --store" in words(app)


@pytest.mark.parametrize("view", VIEWS)
def test_no_store_says_what_to_run(tmp_path: Path, open_app: OpenApp, view: str) -> None:
    said = words(open_app(tmp_path / "none.duckdb", view))
    assert "There is no store at" in said
    assert "prefdata import FILE --store" in said


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_store_says_what_to_run(tmp_path: Path, open_app: OpenApp, view: str) -> None:
    store = Store(tmp_path / "s.duckdb")
    with store.write():
        pass
    said = words(open_app(store.path, view))
    assert re.search("no pairs|People agree|Nobody has judged|Nothing was run", said)
    assert "prefdata " in said


def test_a_store_that_is_not_ours_is_named(tmp_path: Path, open_app: OpenApp) -> None:
    (tmp_path / "s.duckdb").write_bytes(b"not a database" * 400)
    assert "is not a prefdata store" in words(open_app(tmp_path / "s.duckdb"))


@pytest.mark.parametrize("view", VIEWS)
def test_a_busy_store_says_who_has_it(store: Store, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, view: str) -> None:
    held = lock.hold
    with held(store.path, exclusive=True):
        monkeypatch.setattr(lock, "hold", functools.partial(held, wait=0.05))
        app = open_app(store.path, view)
        assert "still busy with process" in words(app)
    button(app, "Try again").click().run()
    assert not app.warning


def test_an_answer_that_cannot_be_stored_keeps_the_pair_on_the_screen(
    store: Store, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(store.path)
    before = [element.value for element in app.markdown]
    held = lock.hold
    with held(store.path, exclusive=True):
        monkeypatch.setattr(lock, "hold", functools.partial(held, wait=0.05))
        button(app, "Tie").click().run()
    assert "That did not reach the store" in app.error[0].value
    assert [element.value for element in app.markdown] == before
    button(app, "Tie").click().run()
    assert len(store.rows(ANSWERS)) == 1


def test_review_shows_votes_with_reasons_and_takes_the_final_word(judged: Store, open_app: OpenApp) -> None:
    app = open_app(judged.path, "review", who="lea")
    assert "**1** of" in words(app)
    said = words(app)
    assert "anna says <b>so</b>" in said
    assert "ben says <b>so</b>" in said
    open_pairs = judged.rows("SELECT subject FROM live_annotations GROUP BY 1 HAVING count(DISTINCT choice) > 1")
    app.text_input[0].set_value("both miss the point")
    button(app, "Both bad").click().run()
    rows = judged.rows("SELECT annotator_kind, choice, scores, rationale FROM live_annotations WHERE annotator_id = 'lea'")
    assert rows == [("human", "both_bad", '{"role": "review"}', "both miss the point")]
    for _ in open_pairs[1:]:
        button(app, "Tie").click().run()
    assert "People agree on every pair" in words(app)
    app.button_group[0].set_value("decided").run()
    assert f"of {len(open_pairs)}" in words(app)
    assert "final word" in words(app)


def test_a_flag_brings_a_pair_to_review_without_a_dispute(store: Store, open_app: OpenApp) -> None:
    answer(store, "anna", "l", flag=True)
    app = open_app(store.path, "review")
    assert "**1** of 1" in words(app)
    assert "flagged" in words(app)


def test_the_dashboard_counts_and_draws(judged: Store, open_app: OpenApp) -> None:
    app = open_app(judged.path, "dashboard")
    metrics = {metric.label: metric.value for metric in app.metric}
    agree = judged.value("""SELECT avg((x.choice = y.choice)::INT) FROM live_annotations x JOIN live_annotations y USING (subject)
        WHERE x.annotator_id < y.annotator_id""")
    assert metrics["Votes"] == "12"
    assert metrics["Agreement"] == f"{agree:.0%}"
    assert metrics["Median time"] == "4 s"
    assert len(app.get("vega_lite_chart")) == 4
    table = app.dataframe[0].value
    assert sorted(table["annotator"]) == ["anna", "ben"]
    assert set(table["votes"]) == {6}


def explored(store: Store, open_app: OpenApp) -> AppTest:
    app = open_app(store.path, "explore")
    app.text_input[0].set_value(str(store.value("SELECT id FROM pairs ORDER BY rowid LIMIT 1"))).run()
    return app


def test_explore_searches_filters_and_tells_why(judged: Store, open_app: OpenApp) -> None:
    recipe = {"steps": [{"aggregate": {"majority": {}}}, {"signal": {"length_margin": {}}}, {"filter": {"no_ties": {}}}]}
    execute(judged, parse(recipe), command="prefdata run r.yaml")
    app = open_app(judged.path, "explore")
    assert len(app.dataframe[0].value) == 10
    assert "length_margin" in app.dataframe[0].value.columns
    app.text_input[0].set_value("QUESTION 3").run()
    assert len(app.dataframe[0].value) == 1
    app.text_input[0].set_value("no such words").run()
    assert "No pair fits" in words(app)
    app.text_input[0].set_value("").run()
    app.selectbox[1].set_value("kept").run()
    kept = judged.value("SELECT count(*) FROM decisions WHERE reason IS NULL")
    assert len(app.dataframe[0].value) == kept
    said = words(explored(judged, open_app))
    for heading in ("The pair", "Why", "Judgements", "Labels", "Decisions", "Signals"):
        assert heading in said


def test_runs_show_steps_failures_and_the_command(judged: Store, open_app: OpenApp) -> None:
    execute(judged, parse({"steps": [{"aggregate": {"majority": {}}}]}), command="prefdata run r.yaml")
    with judged.write() as db:
        db.execute(
            "INSERT INTO outcomes BY NAME "
            "SELECT 'k' AS key, id AS subject, 'failed' AS state, 'unreadable <b>reply</b>' AS note, 0 AS cost FROM pairs LIMIT 3"
        )
    app = open_app(judged.path, "runs")
    assert list(app.dataframe[1].value["step"]) == ["aggregate majority"]
    assert list(app.dataframe[2].value["rows"]) == [3]
    assert "prefdata run r.yaml --store" in words(app)


def test_the_app_has_no_sql_and_opens_no_connection() -> None:
    for path in (ROOT / "app").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"\b(SELECT|INSERT|UPDATE|DELETE)\b", text), path
        assert not re.search(r"duckdb|store(\(\))?\.(read|write|frame|rows|value|append)\(", text), path
