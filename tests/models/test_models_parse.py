"""parse_json: what models write around and inside JSON."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.core.jsons import parse_json
from prefdata.models.protocol import Reply, Unreadable


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"winner": "A"}', {"winner": "A"}),
        ("  \n[1, 2]\n", [1, 2]),
        ("4.5", 4.5),
        ("null", None),
        ('```json\n{"winner": "A"}\n```', {"winner": "A"}),
        ('Sure!\n```\n{"score": 4,}\n```\nHope that helps.', {"score": 4}),
        ('A first try:\n```json\n{"score": 1}\n```\nOn reflection:\n```json\n{"score": 2}\n```', {"score": 2}),
        ('I think {"winner": "B", "why": "it says {so}"} is right.', {"winner": "B", "why": "it says {so}"}),
        ('Draft {"score": 1}, final {"score": 2}', {"score": 2}),
        ('He said "no, {"a": [1, 2,],}', {"a": [1, 2]}),
        ("{'winner': 'A', 'sure': True, 'why': None}", {"winner": "A", "sure": True, "why": None}),
        ('{"why": "It\'s True, [sic] 5,}", "n": 1,}', {"why": "It's True, [sic] 5,}", "n": 1}),
        ('{"why": "two\nlines"}', {"why": "two\nlines"}),
        ('The set {x} and [see below]: {"ok": true}', {"ok": True}),
        ('As in [1], the answer is {"ok": true}', {"ok": True}),
        ("Scores: [4, 5, 3] as asked.", [4, 5, 3]),
        ('<think>maybe {"winner": "B"}</think>{"winner": "A"}', {"winner": "A"}),
        ('{"outer": {"inner": 1}} {}', {"outer": {"inner": 1}}),
        ('{"a": 1,} and then {"b": True,} done', {"b": True}),
    ],
)
def test_it_finds_the_value(text: str, value: Any) -> None:
    assert parse_json(text) == value
    assert Reply(text).json() == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I prefer A.",
        "{winner: A}",
        '{"a": {"score": 1}, "b": {"score": 2',  # cut off: the inner object is not the answer
        '```json\n{"a": {"score": 1}, "b":\n```',
        '{"a": 1 "b": 2}',
        "[1, 2",
    ],
)
def test_it_refuses_what_is_no_whole_value(text: str) -> None:
    with pytest.raises(Unreadable, match=r"no JSON|broken or cut off"):
        parse_json(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "{" * 100_000, "```\n" * 20_000, '{"' * 20_000])
def test_hostile_text_is_refused_quickly(text: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(string.printable, max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.printable, max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), JSON, min_size=1, max_size=3))
def test_an_object_in_prose_and_in_a_fence_comes_back_whole(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert parse_json(f"My verdict: {text}") == value
    assert parse_json(f"My verdict:\n```json\n{json.dumps(value, indent=2)}\n```\n") == value
