"""Judges of all responses of a prompt, of labelled pairs, and what happens when either changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.core import missing, schema
from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch, ingest
from prefdata.core.recipe import Recipe, parse
from prefdata.core.run import Context, Quiet, bind
from prefdata.core.store import Store
from tests.core.plugin_tools import Plug, mock, plug, respond, run, store

__all__ = ["plug", "store"]
ROOT = Path(__file__).resolve().parents[2]
RANK = """
import time
from itertools import combinations

@method(version=1, subject="prompt")
def rank(group: Group, *, scores: bool = False, pause: float = 0.0, log: str = "", limit: int = 99) -> list[Judged] | Abstained:
    '''Longer is better.'''
    time.sleep(pause)
    if log:
        with open(log, "a") as file:
            print(group.prompt.text, *(r.text for r in group.responses), sep="|", file=file)
    if "quiet" in group.prompt.text:
        return Abstained("nothing to say")
    if len(group.responses) > limit:
        raise ValueError("too many")
    if scores:
        return [Judged(r, Score(len(r.text))) for r in group.responses]
    return [
        Judged((x, y), Verdict("a" if len(x.text) > len(y.text) else "b" if len(x.text) < len(y.text) else "tie",
               strength=(len(x.text) - len(y.text)) / 10, shown="ab", raw=f"{x.text}>{y.text}"))
        for x, y in combinations(group.responses, 2)
    ]
"""
LIVE = """SELECT ra.text, rb.text, x.choice, x.strength, x.shown FROM live_annotations x JOIN pairs p ON p.id = x.subject
    JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b WHERE x.kind = 'pair'"""


def live(store: Store) -> set[tuple[str, str, str]]:
    """(better text, other text, choice) of every live verdict, whatever the order of ids."""
    out = set()
    for a, b, choice, strength, shown in store.rows(LIVE):
        assert shown in ("ab", "ba")
        assert (strength > 0) == (choice == "a")
        out.add((a, b, ">") if choice == "a" else (b, a, ">") if choice == "b" else (min(a, b), max(a, b), "="))
    return out


def test_a_group_is_judged_and_its_pairs_are_made(plug: Plug, store: Store, tmp_path: Path) -> None:
    plug("judges", "rank", RANK)
    respond(store, {"p": ["xxx", "x", "xx"], "quiet": ["1", "22"], "one": ["alone"]})
    ingest(store, [Batch("prompts", pl.DataFrame({"line": [1], "prompt": ["none"], "source": ["t"], "item_id": ["n"]}))])
    log = tmp_path / "log"
    (step,) = run(store, {"judge": {"rank": {"log": str(log)}}})
    assert (step.rows_in, step.done, step.abstained, step.failed) == (4, 1, 3, 0)
    assert log.read_text().splitlines() == ["p|xxx|x|xx", "quiet|1|22"], "store order, and nothing of one response is read"
    assert live(store) == {("xxx", "x", ">"), ("xxx", "xx", ">"), ("xx", "x", ">")}
    assert dict(store.rows("SELECT p.messages->>'$[0].content', o.note FROM outcomes o JOIN prompts p ON p.id = o.subject")) == {
        "p": None,
        "quiet": "nothing to say",
        "one": "a judgement of a group needs 2 responses; this prompt has 1",
        "none": "a judgement of a group needs 2 responses; this prompt has 0",
    }
    pairs = store.rows("SELECT count(*), bool_and(a < b), bool_and(source = 't'), any_value(strategy) FROM pairs")
    assert pairs == [(3, True, True, step.key)]
    assert store.rows("SELECT count(*) FROM pairs WHERE id <> md5(a::VARCHAR || b::VARCHAR)::UUID") == [(0,)]
    (again,) = run(store, {"judge": {"rank": {"log": str(log)}}})
    assert (again.had, again.done) == (4, 0)


def test_pairs_that_are_there_are_used(plug: Plug, store: Store) -> None:
    plug("judges", "rank", RANK)
    respond(store, {"p": ["xxx", "x"]})
    pairing, judged, label = run(store, {"pairing": "all_pairs"}, {"judge": "rank"}, {"aggregate": "majority"})
    assert (pairing.done, judged.done, label.done) == (1, 1, 1)
    assert store.rows("SELECT strategy FROM pairs") == [(pairing.key,)]
    assert store.value("SELECT margin FROM labels") == 1.0


def test_scores_of_a_group(plug: Plug, store: Store) -> None:
    plug("judges", "rank", RANK)
    respond(store, {"p": ["xxx", "x", "xx"]})
    (step,) = run(store, {"judge": {"rank": {"scores": True}}})
    assert step.done == 1
    assert store.rows("SELECT r.text, x.score, x.kind FROM annotations x JOIN responses r ON r.id = x.subject ORDER BY 1") == [
        ("x", 1.0, "response"), ("xx", 2.0, "response"), ("xxx", 3.0, "response"),
    ]  # fmt: skip


def test_a_group_with_new_responses_is_judged_anew(plug: Plug, store: Store, tmp_path: Path) -> None:
    plug("judges", "rank", RANK)
    log = tmp_path / "log"
    step = {"judge": {"rank": {"log": str(log)}}}
    respond(store, {"p": ["xxx", "x"], "q": ["a", "bb"], "one": ["alone"]})
    run(store, step)
    respond(store, {"p": ["xx"], "one": ["together"]})
    (changed,) = run(store, step)
    assert (changed.rows_in, changed.had, changed.done) == (3, 1, 2)
    assert log.read_text().splitlines() == ["p|xxx|x", "q|a|bb", "p|xxx|x|xx", "one|alone|together"]
    assert live(store) == {
        ("xxx", "x", ">"), ("xxx", "xx", ">"), ("xx", "x", ">"), ("bb", "a", ">"), ("together", "alone", ">"),
    }  # fmt: skip
    assert store.rows("SELECT count(*), count(retracts), count(DISTINCT id) FROM annotations") == [(7, 1, 7)]
    assert store.rows("SELECT count(*), count(DISTINCT subject) FROM outcomes") == [(3, 3)]
    (same,) = run(store, step)
    assert (same.had, same.done) == (3, 0)


def test_going_back_to_fewer_sources_brings_the_old_judgement_back(plug: Plug, store: Store) -> None:
    plug("judges", "rank", RANK)
    respond(store, {"p": ["xxx", "x"]}, source="t")
    respond(store, {"p": ["xx"]}, source="u")
    few, every = {("xxx", "x", ">")}, {("xxx", "x", ">"), ("xxx", "xx", ">"), ("xx", "x", ">")}
    for only, want in ((["t"], few), ([], every), (["t"], few), ([], every)):
        (step,) = run(store, {"judge": "rank"}, only=only)
        assert step.done == 1
        assert live(store) == want


def test_a_group_that_fails_keeps_what_was_said_until_it_succeeds(plug: Plug, store: Store) -> None:
    plug("judges", "rank", RANK)
    step = {"judge": {"rank": {"limit": 2}}}
    respond(store, {"p": ["xxx", "x"]})
    run(store, step)
    respond(store, {"p": ["xx"]})
    (failed,) = run(store, step)
    assert failed.failed == 1
    assert live(store) == {("xxx", "x", ">")}
    (had,) = run(store, step)
    assert had.had == 1
    (retried,) = run(store, step, retry_failed=True)
    assert retried.failed == 1


def test_windows_never_cut_a_group(plug: Plug, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug("judges", "rank", RANK)
    monkeypatch.setattr(missing, "WINDOW", 5)
    given = {f"p{i}": [f"r{i} {'x' * n}" for n in range(1 + i % 7)] for i in range(23)}
    respond(store, given)
    log = tmp_path / "log"
    (step,) = run(store, {"judge": {"rank": {"log": str(log)}}})
    assert (step.done, step.abstained) == (sum(len(r) > 1 for r in given.values()), sum(len(r) < 2 for r in given.values()))
    assert log.read_text().splitlines() == ["|".join([p, *texts]) for p, texts in given.items() if len(texts) > 1]


def test_interleaved_responses_find_their_prompt(plug: Plug, store: Store, tmp_path: Path) -> None:
    plug("judges", "rank", RANK)
    for n in range(3):
        respond(store, {f"p{i}": [f"p{i} answer {n}"] for i in range(4)})
    log = tmp_path / "log"
    run(store, {"judge": {"rank": {"log": str(log)}}})
    assert log.read_text().splitlines() == ["|".join([f"p{i}", *(f"p{i} answer {n}" for n in range(3))]) for i in range(4)]


TURN = """
@method(version=1, subject="prompt")
def turn(group: Group) -> list[Judged]:
    '''The first is better than the second, in both orders of the tuple.'''
    first, second = group.responses[:2]
    more = {"orders": {"ba": "b", "ab": "tie"}, "p_a": 0.1, "p_b": 0.75, "vitamin_b": 6}
    scores = {"orders": {"ab": "a", "ba": "tie"}, "flipped": False, "p_a": 0.75, "given": {"ab": {"a": 8, "b": 3}}, "n": 1}
    return [
        Judged((first, second), Verdict("a", 0.5, scores, "why", "ab", annotator="forward")),
        Judged((second, first), Verdict("b", -0.5, more, None, "ba", annotator="back")),
        Judged((second, first), Verdict("tie", 0.0, {}, None, "both", annotator="even")),
    ]
"""


def test_verdicts_are_brought_to_store_order(plug: Plug, store: Store) -> None:
    plug("judges", "turn", TURN)
    respond(store, {f"p{i}": [f"first {i}", f"second {i}"] for i in range(8)})
    run(store, {"judge": "turn"})
    rows = store.rows(
        """SELECT ra.text LIKE 'first%', x.annotator_id, x.choice, x.strength, x.shown, x.scores FROM annotations x
           JOIN pairs p ON p.id = x.subject JOIN responses ra ON ra.id = p.a"""
    )
    assert len(rows) == 24
    assert {row[0] for row in rows} == {True, False}, "both cases are there"
    for first_is_a, who, choice, strength, shown, scores in rows:
        said = json.loads(scores or "{}")
        if who == "turn:even":
            assert (choice, strength, shown) == ("tie", 0.0, "both")
            continue
        assert (choice, strength) == (("a", 0.5) if first_is_a else ("b", -0.5))
        assert shown == ("ab" if first_is_a else "ba"), "in both the first response stood first"
        if who == "turn:forward":
            assert said["p_a"] == (0.75 if first_is_a else 0.25)
        else:
            assert (said["p_a"], said["p_b"], said["vitamin_b"]) == ((0.75, 0.1, 6) if first_is_a else (0.1, 0.75, 6))
        assert said["orders"] == ({"ab": "a", "ba": "tie"} if first_is_a else {"ba": "b", "ab": "tie"})
        if who == "turn:forward":
            assert said["given"] == ({"ab": {"a": 8, "b": 3}} if first_is_a else {"ba": {"b": 8, "a": 3}})


BAD = """
import math

@method(version=1, subject="prompt")
def bad(group: Group) -> list[Judged]:
    '''Does something wrong, by the prompt.'''
    x, y = group.responses[:2]
    return {
        "stranger": [Judged((x, Response(group.prompt, "nobody said this")), Verdict("a"))],
        "itself": [Judged((x, x), Verdict("a"))],
        "mixed": [Judged((x, y), Score(1.0))],
        "bare": Verdict("a"),
        "none": None,
        "nan": [Judged(x, Score(math.nan))],
        "strong": [Judged((x, y), Verdict("a", 2.0))],
        "choice": [Judged((x, y), Verdict("A"))],
        "odd": [Judged((x, y), Verdict("a", scores={"x": object()}))],
        "good": [Judged((x, y), Verdict("a", scores={"nan": math.inf, "half": "\\ud83d"}, rationale="half \\ud83d", raw="\\x00"))],
    }[group.prompt.text]
"""


def test_a_bad_result_is_one_failed_row(plug: Plug, store: Store) -> None:
    plug("judges", "bad", BAD)
    names = ("stranger", "itself", "mixed", "bare", "none", "nan", "strong", "choice", "odd", "good")
    respond(store, {name: ["one", "two"] for name in names})
    (step,) = run(store, {"judge": "bad"})
    assert (step.done, step.failed) == (1, 9)
    notes = dict(store.rows("SELECT p.messages->>'$[0].content', o.note FROM outcomes o JOIN prompts p ON p.id = o.subject"))
    assert notes["stranger"] == "a judge of several responses judged one that is not among them."
    assert notes["itself"] == notes["mixed"] == "a Score is about one response and a Verdict about two different ones."
    assert notes["bare"] == "a judge of a group gave Verdict; it must give a list of Judged, or Abstained."
    assert "gave NoneType" in notes["none"]
    assert notes["nan"] == "a judge gave the score nan; it must be a finite number."
    assert notes["strong"].endswith("2.0; it must be a finite number from -1 to 1.")
    assert "unknown choice 'A'" in notes["choice"]
    assert notes["odd"].startswith("TypeError")
    assert store.rows("SELECT rationale, scores, raw FROM annotations") == [("half ?", '{"half":"?","nan":null}', "\x00")]


def _rank_in_a_process(store: Store, plugins: Path, log: Path) -> subprocess.Popen[bytes]:
    code = f"""
from pathlib import Path
from prefdata.core import catalogue, rowwise
rowwise.FLUSH_SECONDS = 0.1
catalogue.add_plugins(Path({str(plugins)!r}))
import prefdata
prefdata.run({{"steps": [{{"judge": {{"rank": {{"pause": 0.03, "log": {str(log)!r}}}}}}}]}}, {str(store.path)!r})
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_groups_are_finished_after_being_killed(plug: Plug, store: Store, tmp_path: Path, how: signal.Signals) -> None:
    plugins = plug("judges", "rank", RANK).parents[1]
    respond(store, {f"p{i}": ["x", "xx", "xxx"] for i in range(40)})
    log = tmp_path / "log"
    process = _rank_in_a_process(store, plugins, log)
    while not log.exists() or len(log.read_text().splitlines()) < 15:
        time.sleep(0.02)
        assert process.poll() is None
    os.kill(process.pid, how)
    _, stderr = process.communicate(timeout=30)
    finished = store.value("SELECT count(*) FROM outcomes")
    assert 0 < finished < 40
    assert store.value("SELECT count(*) FROM annotations") == 3 * finished == store.value("SELECT count(*) FROM pairs")
    if how == signal.SIGINT:
        assert b"run the same command again" in stderr
        assert finished == len(log.read_text().splitlines())
    assert _rank_in_a_process(store, plugins, log).wait() == 0
    assert store.rows("SELECT count(*), count(DISTINCT id), count(DISTINCT subject) FROM annotations") == [(120, 120, 120)]
    assert store.value("SELECT count(*) FROM outcomes") == 40


TOLD = """
@method(version=1, subject="pair", needs=("winner",))
async def told(pair: Pair, ask: Ask) -> Verdict | Abstained:
    '''Says what it was told.'''
    if pair.winner is None:
        return Abstained("no label")
    return Verdict("abstain", rationale=f"{pair.winner} because {(await ask(pair.prompt.messages)).text}")
"""


def pairs(store: Store, labels: dict[str, str | None]) -> None:
    rows = [
        {
            "line": n,
            "source": "t",
            "item_id": item,
            "prompt": item,
            "response_a": f"a of {item}",
            "response_b": f"b of {item}",
            "label": label,
        }
        for n, (item, label) in enumerate(labels.items())
    ]
    ingest(store, [Batch("pairs", pl.DataFrame(rows, schema_overrides={"label": pl.String}))])


def votes(store: Store, item: str, *labels: str) -> None:
    frame = pl.DataFrame({"label": labels}).with_columns(
        line=pl.int_range(pl.len()), source=pl.lit("t"), ref=pl.lit(item), annotator_id=pl.format("v{}", pl.int_range(pl.len()))
    )
    ingest(store, [Batch("annotations", frame)])


def told(store: Store) -> dict[str, str]:
    rows = store.rows(
        """SELECT i.item_id, i.swapped, x.rationale FROM live_annotations x JOIN items i ON i.subject = x.subject AND i.kind = 'pair'
           WHERE x.annotator_kind = 'llm'"""
    )
    turned = {"a": "b", "b": "a"}
    return {item: turned.get(said[0], said[0]) + said[1:] if swapped else said for item, swapped, said in rows}


def test_a_judge_that_is_told_the_label(plug: Plug, store: Store) -> None:
    plug("judges", "told", TOLD)
    pairs(store, {"one": "a", "two": "b", "three": None})
    models = {"m": mock("so")}
    label, step = steps = ({"aggregate": "majority"}, {"judge": {"told": {"ask": "m"}}})
    with pytest.raises(PrefdataError, match="add an aggregate step"):
        run(store, step, models=models)
    _, first = run(store, *steps, models=models)
    assert (first.done, first.abstained) == (2, 1)
    assert told(store) == {"one": "a because so", "two": "b because so"}
    _, again = run(store, *steps, models=models)
    assert again.had == 3
    votes(store, "one", "b", "b")
    votes(store, "three", "a")
    _, changed = run(store, *steps, models=models)
    assert (changed.had, changed.done) == (1, 2)
    assert told(store) == {"one": "b because so", "two": "b because so", "three": "a because so"}
    votes(store, "one", "a", "a", "a")
    run(store, *steps, models=models)
    assert told(store)["one"] == "a because so", "a label that comes back is told again"
    with_judges, without = run(store, label, step, label, models=models)[0::2]
    assert with_judges.key == without.key, "who was told the label is no voter"
    _, _, fewer = run(store, label, {"filter": {"where": {"keep": "winner = 'a'", "reason": "b"}}}, step, models=models)
    assert fewer.had == fewer.rows_in < 3, "a filter leaves rows out and asks about none anew"


def test_needs_of_judges_are_checked(plug: Plug, store: Store) -> None:
    plug(
        "judges",
        "greedy",
        """
        @method(version=1, subject="pair", needs=("margin",))
        def greedy(pair: Pair) -> Verdict:
            '''Wants more.'''
        """,
    )
    plug(
        "judges",
        "lost",
        """
        @method(version=1, subject="pool")
        def lost(pair: Pair) -> Verdict:
            '''Has no subject.'''
        """,
    )
    with pytest.raises(PrefdataError, match="winner of a pair and no other column"):
        run(store, {"judge": "greedy"})
    with pytest.raises(PrefdataError, match="subject of 'pair', 'response', 'prompt', not 'pool'"):
        run(store, {"judge": "lost"})


def test_several_verdicts_on_one_pair(plug: Plug, store: Store) -> None:
    plug(
        "judges",
        "voices",
        """
        @method(version=1, subject="pair")
        def voices(pair: Pair) -> list[Verdict | Judged]:
            '''Two jurors, one of them twice, and scores of both sides.'''
            return [Verdict("a", annotator="x"), Verdict("b", annotator="y"), Verdict("b", shown="ba", annotator="y"),
                    Judged(pair.a, Score(3)), Judged(pair.b, Score(1))]
        """,
    )
    pairs(store, {"one": None})
    (step,) = run(store, {"judge": "voices"})
    assert step.done == 1
    assert store.rows("SELECT annotator_id, choice, score FROM annotations ORDER BY annotator_id, choice, score") == [
        ("voices", None, 1.0), ("voices", None, 3.0), ("voices:x", "a", None), ("voices:y", "b", None), ("voices:y", "b", None),
    ]  # fmt: skip


def test_a_strategy_that_gives_something_else_fails_its_row(plug: Plug, store: Store) -> None:
    plug(
        "strategies",
        "texts",
        """
        @method(version=1, subject="prompt")
        def texts(prompt: Prompt) -> list[Response]:
            '''Strings, or half a character.'''
            return ["no"] if prompt.text == "bad" else [Response(prompt, "half \\ud83d", "m", params={"x": float("nan")})]
        """,
    )
    ingest(store, [Batch("prompts", pl.DataFrame({"line": [1, 2], "prompt": ["bad", "good"], "source": ["t"] * 2, "item_id": ["1", "2"]}))])
    (step,) = run(store, {"strategy": "texts"})
    assert (step.done, step.failed) == (1, 1)
    assert store.rows("SELECT text, params FROM responses") == [("half ?", '{"x":null}')]
    assert store.value("SELECT note FROM outcomes WHERE state = 'failed'").startswith("a strategy gave str")


def test_what_a_group_costs_in_a_plan(plug: Plug, store: Store) -> None:
    plug(
        "judges",
        "sort",
        """
        @method(version=1, subject="prompt", calls="responses * (responses - 1) / 2")
        async def sort(group: Group, ask: Ask) -> list[Judged]:
            '''Asks about every pair.'''
        """,
    )
    respond(store, {"p": ["1", "2", "3", "4"], "q": ["1", "2", "3", "4"], "one": ["1"]})
    models: dict[str, Any] = {"m": mock("x", price={"input": 1_000_000, "output": 0})}
    (step,) = run(store, {"judge": {"sort": {"ask": "m"}}}, models=models, plan=True)
    assert (step.rows_in, step.missing, step.calls) == (3, 3, 12)
    assert store.value("SELECT count(*) FROM outcomes") == 0


def test_a_store_from_before_keeps_its_outcomes(plug: Plug, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plug(
        "judges",
        "flat",
        """
        @method(version=1, subject="response")
        def flat(response: Response) -> Score:
            '''One.'''
            return Score(1)
        """,
    )
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:3])
    respond(store, {"p": ["x", "y"]})
    key = bind(parse({"steps": [{"judge": "flat"}]}).steps[0], Recipe()).key(Context(store, Recipe(), None, Quiet(), ""))
    with store.write() as db:
        db.execute("INSERT INTO outcomes SELECT ?, id, 'done', NULL, 0.5 FROM responses LIMIT 1", [key])
    monkeypatch.undo()
    (step,) = run(Store(store.path), {"judge": "flat"})
    assert (step.key, step.rows_in, step.had, step.done) == (key, 2, 1, 1)
    assert store.rows("SELECT state, cost, seen FROM outcomes ORDER BY cost DESC") == [("done", 0.5, None), ("done", 0.0, None)]


def test_a_strategy_may_answer_prompts_of_its_own(plug: Plug, store: Store) -> None:
    """The made prompt of a plain one is what importing its text would give, but for the twin: it stays with what it is made of."""
    plug(
        "strategies",
        "again",
        """
        @method(version=1, subject="prompt")
        def again(prompt: Prompt) -> list[Response] | Abstained:
            '''Answers the prompt, a louder one twice, and one with a system message.'''
            if prompt.meta.get("made_by"):
                return Abstained("mine")
            loud = Prompt(({"role": "user", "content": " " + prompt.text.upper()},), prompt.source, {"made_by": "again"})
            ruled = Prompt(({"role": "system", "content": "Be brief."}, *prompt.messages), prompt.source, {"made_by": "again"})
            return [Response(prompt, "0"), Response(loud, "1"), Response(loud, "2"), Response(ruled, "3")]
        """,
    )
    ingest(store, [Batch("prompts", pl.DataFrame({"line": [1], "source": ["t"], "item_id": ["1"], "prompt": ["plain"]}))])
    (step,) = run(store, {"strategy": "again"})
    assert (step.rows_in, step.done) == (1, 1)
    made = "SELECT messages->>'$[#-1].content', chars, plain, source, meta->>'$.made_by' FROM prompts ORDER BY rowid"
    assert sorted(store.rows(made), key=str) == [
        (" PLAIN", 6, True, "t", "again"),
        ("plain", len("system_Be brief._user_plain_"), False, "t", "again"),
        ("plain", 5, True, "t", None),
    ]
    assert store.value("SELECT count(DISTINCT twin) FROM prompts") == 1
    assert store.rows("SELECT r.text FROM responses r LEFT JOIN prompts p ON p.id = r.prompt_id WHERE p.id IS NULL") == []
    other = Store(store.path.with_name("other.duckdb"))
    ingest(other, [Batch("prompts", pl.DataFrame({"line": [1], "source": ["t"], "item_id": ["1"], "prompt": [" PLAIN"]}))])
    imported = "SELECT id, messages, chars, plain FROM prompts WHERE messages->>'$[0].content' = ' PLAIN'"
    assert store.rows(imported) == other.rows(imported)
    (again,) = run(store, {"strategy": "again"})
    assert (again.rows_in, again.had, again.abstained) == (3, 1, 2)
    assert store.value("SELECT count(*) FROM prompts") == 3
