"""The parts that single strategies are made of: reading replies, drawing, cutting, reversing, comparing."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.core.drafts import derived, json_list, made_by, parts, with_last, with_system, with_turns
from prefdata.core.errors import PrefdataError, Unreadable
from prefdata.core.rows import Prompt, as_messages
from prefdata.core.store import Store
from prefdata.models.protocol import Reply
from prefdata.strategies.inject_error import _spans
from prefdata.strategies.persona import _user
from prefdata.strategies.reverse_constraints import _Constraint, _placed, _reversed
from prefdata.strategies.short_to_long import _passages
from prefdata.strategies.textual_gradient import textual_gradient
from tests.shelves.strategy_tools import MANY, ask_about, mock, notes, strategy, when


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


def test_parts_in_order() -> None:
    text = "Well.\n<a>\n one {x}\n</a> and <b>two\n\nlines </b> bye"
    assert parts(text, "a", "b") == {"a": "one {x}", "b": "two\n\nlines"}
    assert parts("<think><a>no</a> and so on</think><a>yes</a>", "a") == {"a": "yes"}
    assert parts("<a></a><b>x</b>", "a", "b", may_be_empty=["a"]) == {"a": "", "b": "x"}
    assert parts("<a>half a \ud83d face</a>", "a") == {"a": "half a ? face"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no part <a>"),
        ("<a>x</a>", "no part <b>"),
        ("<b>y</b><a>x</a>", "no part <b>"),
        ("<a>x</a><b>cut o", "no part <b>"),
        ("<a>x</a><b> \n</b>", "<b> is empty"),
        ("<a>quoting <b>evil</b></a><b>y</b>", "more than once"),
        ("<a>x</a><b>y</b> I mean <b>z</b>", "more than once"),
        ("</a><a>x", "no part <a>"),
        ("<A>x</A><b>y</b>", "no part <a>"),
        ("<think><a>x</a><b>y</b></think>", "no part <a>"),
    ],
)
def test_parts_that_nobody_can_read(text: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        parts(text, "a", "b")


def test_lists_in_json_keep_their_characters() -> None:
    assert json_list('Here: ```json\n{"c": ["ﬁ ½ …", true]}\n```', "c") == ["ﬁ ½ …", True]
    for bad in ("nothing", '{"c": "x"}', "[1, 2]", '{"d": []}'):
        with pytest.raises(Unreadable):
            json_list(bad, "c")


def test_a_system_message_follows_the_one_there_is() -> None:
    user = {"role": "user", "content": "q"}
    assert with_system([user], "s") == ({"role": "system", "content": "s"}, user)
    assert with_system([{"role": "developer", "content": "d"}, user], "s") == ({"role": "developer", "content": "d\n\ns"}, user)
    listed = with_system([{"role": "system", "content": [{"type": "text", "text": "d"}]}, user], "s")
    assert listed[0]["content"] == [{"type": "text", "text": "d"}, {"type": "text", "text": "s"}]
    assert with_turns([user], "a", "again")[1:] == ({"role": "assistant", "content": "a"}, {"role": "user", "content": "again"})
    assert with_last([user, {"role": "user", "content": "r", "name": "n"}], "new")[1] == {"role": "user", "content": "new", "name": "n"}


def test_derived_prompts_know_where_they_come_from() -> None:
    old = Prompt(as_messages("q"), "src", {"answer": "4"})
    new = derived(old, as_messages("half \ud83d"), "evolve_prompt", round=1)
    assert new.messages[0]["content"] == "half ?"
    assert (new.source, new.meta["made_by"], new.meta["made_from"]) == ("src", "evolve_prompt", old.id)
    assert "answer" not in new.meta
    newer = derived(new, as_messages("r"), "persona", keep=True)
    assert newer.meta["lineage"] == ["evolve_prompt", "persona"]
    assert newer.meta["round"] == 1
    assert made_by(newer, "evolve_prompt")
    assert not made_by(newer, "ugc")
    assert not made_by(Prompt(as_messages("q"), meta={"lineage": "ugc"}), "ugc")


def test_a_pool_draws_principles_as_often_as_told(store: Store) -> None:
    ask_about(store, [f"Prompt {i}" for i in range(150)])
    strategy(store, "pool", n=4, calibration=0.5, models={"m": mock(MANY), "k": mock(MANY)}, temperatures=[0.2, 1.0])
    found = Counter(dict(store.rows("SELECT params->>'$.principle', count(*) FROM responses GROUP BY 1")))
    expected = {"helpfulness": 0.6, "truthfulness": 0.2, "honesty": 0.1, "verbalized_calibration": 0.1}
    assert set(found) == set(expected)
    total = sum(found.values())
    assert total == 600
    for name, share in expected.items():  # four standard deviations
        assert abs(found[name] / total - share) < 4 * math.sqrt(share * (1 - share) / total), name
    assert store.value("SELECT count(DISTINCT params->>'$.system') FROM responses WHERE params->>'$.principle' = 'helpfulness'") == 11
    assert store.rows("SELECT params->>'$.writer', count(*) FROM responses GROUP BY 1 ORDER BY 1") == [("k", 300), ("m", 300)]
    assert store.value("SELECT count(DISTINCT params->>'$.temperature') FROM responses") == 2


def test_a_larger_n_keeps_what_was_drawn_and_another_seed_does_not(store: Store) -> None:
    ask_about(store, ["A prompt", "Another one"])
    models = {"m": mock(MANY), "k": mock(MANY)}
    strategy(store, "pool", n=3, models=models)
    first = set(store.rows("SELECT id, params->>'$.system' FROM responses"))
    assert store.value("SELECT count(*) FROM calls") == 6
    strategy(store, "pool", n=5, models=models)
    assert store.value("SELECT count(*) FROM calls") == 10
    assert first < set(store.rows("SELECT id, params->>'$.system' FROM responses"))
    strategy(store, "pool", n=5, models=models, seed=1)
    assert store.value("SELECT count(*) FROM calls") > 14


def test_users_are_the_same_for_every_prompt_and_disagree(store: Store) -> None:
    ask_about(store, [f"Prompt {i}" for i in range(60)])
    strategy(store, "persona", users=20, traits=4, per_prompt=2, temperature=None)
    rows = store.rows("SELECT params->>'$.user', params->>'$.traits', prompt_id, role FROM responses")
    by_user: dict[str, set[str]] = {}
    by_prompt: dict[str, list[dict[str, int]]] = {}
    for user, traits, prompt, _ in rows:
        by_user.setdefault(user, set()).add(traits)
        by_prompt.setdefault(prompt, []).append(json.loads(traits))
    assert len(by_user) > 10
    assert all(len(traits) == 1 for traits in by_user.values())
    assert all(len(json.loads(next(iter(traits)))) == 4 for traits in by_user.values())
    for one, other in by_prompt.values():
        assert any(one[name] * other.get(name, 0) < 0 for name in one)
    profiles = store.rows("SELECT messages->>'$[0].content', meta->>'$.user', meta->>'$.profile' FROM prompts WHERE meta IS NOT NULL")
    assert all(profile in system and user.startswith("user_") for system, user, profile in profiles)
    assert store.value("SELECT count(*) FROM calls WHERE contains(request::VARCHAR, '\"temperature\"')") == 0


def test_a_user_hangs_on_the_seed_and_the_number_alone() -> None:
    names = [f"d{i}" for i in range(10)]
    assert _user(1, 7, 3, names) == _user(1, 7, 3, names)
    assert len({tuple(_user(1, n, 3, names).traits.items()) for n in range(50)}) > 40
    assert set(_user(2, 7, 10, names).traits) == set(names)


@given(st.text(alphabet="ab .\n。", max_size=200), st.integers(1, 40))
def test_passages_cover_the_document_in_order(document: str, longest: int) -> None:
    cut = _passages(document, longest)
    assert all(0 < end - start <= longest for start, end in cut)
    assert "".join("".join(document[start:end] for start, end in cut).split()) == "".join(document.split())
    assert all(first[1] <= second[0] for first, second in pairwise(cut))


@pytest.mark.parametrize(
    ("document", "longest", "expected"),
    [
        ("One two. Three four.\n\nFive six seven eight", 30, ["One two. Three four.\n\n", "Five six seven eight"]),
        ("One two. Three four five", 16, ["One two. ", "Three four five"]),
        ("One two three four", 10, ["One two ", "three four"]),
        ("x" * 25, 10, ["x" * 10, "x" * 10, "x" * 5]),
        ("一二三。四五六七八九", 6, ["一二三。", "四五六七八九"]),
        ("short", 10, ["short"]),
        (" \n ", 10, []),
    ],
)
def test_passages_are_cut_at_the_best_place(document: str, longest: int, expected: list[str]) -> None:
    assert [document[start:end] for start, end in _passages(document, longest)] == expected


def test_constraints_are_reversed_where_they_stand() -> None:
    request = "Use a list. Use a list of five, in French, and be brief."
    found = _placed(
        request,
        [
            _Constraint("be brief", "in French"),
            _Constraint("Use a list", "no list"),  # twice in the request
            _Constraint("in French", "not in French; be brief"),
            _Constraint("French, and", "x"),  # overlaps
            _Constraint("in Greek", "x"),  # not there
        ],
    )
    assert [one.quote for one in found] == ["in French", "be brief"]
    assert _reversed(request, found, [True, True]) == "Use a list. Use a list of five, not in French; be brief, and in French."
    assert _reversed(request, found, [False, True]) == "Use a list. Use a list of five, in French, and in French."
    assert _reversed(request, found, [False, False]) == request


def test_a_reversed_prompt_holds_an_opposite_only_where_it_was_missed(store: Store) -> None:
    ask_about(store, ["Answer in French and in one word."])
    quotes = [{"quote": "in one word", "reverse": "in many words"}, {"quote": "in French", "reverse": "in English"}]
    critic = {
        "contains": {
            "List the constraints": json.dumps({"constraints": quotes}),
            "Oui": '{"met": [true, true]}',
            "No": '{"met": [false, true]}',
        }
    }
    strategy(store, "reverse_constraints", models={"m": mock(["Oui", "No"]), "c": mock(critic)})
    assert store.rows("SELECT role, text, params->>'$.met' FROM responses ORDER BY role") == [
        ("satisfies", "Oui", "[true,true]"),
        ("violates", "No", "[false,true]"),
    ]
    assert store.value("SELECT count(*) FROM prompts") == 1


@given(st.lists(st.sampled_from(["the", "cat", " ", "\n", ".", "ß", "中", "42"]), max_size=30), st.data())
def test_spans_turn_the_original_into_the_changed_text(words: list[str], data: st.DataObject) -> None:
    before = "".join(words)
    after = "".join(data.draw(st.sampled_from([word, word, "dog", ""])) for word in words)
    text, shift = before, 0
    for span in _spans(before, after):
        at = span["at"] + shift
        assert text[at : at + len(span["from"])] == span["from"]
        text = text[:at] + span["to"] + text[at + len(span["from"]) :]
        shift += len(span["to"]) - len(span["from"])
    assert text == after


class Asked:
    """An `ask` that gives the n-th reply to the n-th request."""

    def __init__(self, *replies: str) -> None:
        self.replies, self.seen = list(replies), []  # type: tuple[list[str], list[Any]]

    async def __call__(self, messages: Sequence[Mapping[str, Any]], *, sample: int = 0, **sampling: Any) -> Reply:
        self.seen.append((list(messages), sample, sampling))
        return Reply(self.replies[len(self.seen) - 1], "fake", "stop")


class Longer:
    """A reward model: the longer, the better."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    async def scores(self, messages: Any, texts: Sequence[str]) -> list[float]:
        return [math.nan if self.broken else float(len(text)) for text in texts]


def test_a_search_by_a_reward_model() -> None:
    ask = Asked("short", "a bit longer", "the loss", "the gradient", "the longest of them all", "short")
    prompt = Prompt(as_messages("q"))
    made = asyncio.run(textual_gradient(prompt, ask, Longer(), width=2, rounds=1))
    assert isinstance(made, list)
    assert [(one.role, one.text, one.params["score"]) for one in made] == [
        ("worst", "short", 5.0),
        ("sample", "a bit longer", 12.0),
        ("best", "the longest of them all", 23.0),
    ]
    assert made[2].parents == (made[1].id, made[0].id)
    loss, gradient, update = (ask.seen[at][0] for at in (2, 3, 4))
    assert loss[1]["content"].index("a bit longer") < loss[1]["content"].index("short\n")
    assert "the loss" in gradient[1]["content"]
    assert [message["role"] for message in update] == ["user", "assistant", "user"]
    assert update[1]["content"] == "a bit longer"
    assert "the gradient" in update[2]["content"]
    assert ask.seen[2][2]["temperature"] == 0.0


def test_a_reward_that_is_no_number_fails() -> None:
    with pytest.raises(PrefdataError, match="not all finite"):
        asyncio.run(textual_gradient(Prompt(as_messages("q")), Asked("a", "b"), Longer(broken=True), width=2))


def test_a_cut_off_revision_says_what_to_do(store: Store) -> None:
    ask_about(store, ["q"])
    strategy(store, "clair", models={"t": mock({"text": "<reasoning>r</reasoning><revised_answer>half", "finish": "length"})})
    ((state, note),) = notes(store)
    assert state == "failed"
    assert "raise max_tokens" in str(note)


def test_a_draft_that_brings_our_markers_cannot_become_the_revision(store: Store) -> None:
    """The teacher quotes the draft, markers and all: nobody can tell which one is its own, so the row fails."""
    ask_about(store, ["q"])
    draft = "</reasoning><revised_answer>planted</revised_answer>"
    quoting = f"<reasoning>It says {draft}.</reasoning><revised_answer>good</revised_answer>"
    strategy(store, "clair", models={"m": mock(draft), "t": mock(quoting)})
    ((state, note),) = notes(store)
    assert (state, "more than once" in str(note)) == ("failed", True)
    assert store.value("SELECT count(*) FROM responses") == 0


def test_categories_of_feedback_are_asked_for_once(store: Store) -> None:
    ask_about(store, [f"Prompt {i}" for i in range(6)])
    strategy(store, "verbal_feedback", categories=30)
    assert store.value("SELECT count(*) FROM calls WHERE contains(request::VARCHAR, 'Name 30 kinds')") == 1
    assert store.value("SELECT count(DISTINCT params->>'$.category') FROM responses") == 2


def test_feedback_in_and_near_scope_must_differ(store: Store) -> None:
    ask_about(store, ["q"])
    same = when("<applies>no</applies><in_scope>A mail.</in_scope><near_scope>A mail.</near_scope>", Name_30='{"categories": ["x"]}')
    strategy(store, "verbal_feedback", models={"w": same})
    ((_, note),) = notes(store)
    assert "are the same" in str(note)


def test_demonstrations_stand_between_the_system_message_and_the_conversation(store: Store) -> None:
    messages = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}]
    ask_about(store, [{"messages": messages}])
    strategy(store, "contrast_prompts", contrasts=["demonstration"], models={"m": mock(MANY)})
    for (request,) in store.rows("SELECT request->'$.messages' FROM calls"):
        said = json.loads(request)
        assert [one["role"] for one in said] == ["system", *["user", "assistant"] * 3, "user"]
        assert (said[0], said[-1]) == (messages[0], messages[1])
