"""Roles: which responses make a pair, and which of two is better by the way they were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.core.errors import PrefdataError
from prefdata.core.rows import Abstained, Pair, Prompt, Response, Verdict, as_messages
from prefdata.core.store import Store
from prefdata.judges.by_construction import by_construction
from prefdata.pairing.by_role import by_role
from tests.shelves.strategy_tools import ask_about, when


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


def responses(*rows: tuple[str, str, list[str], str | None]) -> pl.DataFrame:
    """id, role, parents, set; all of one prompt, the id is the text."""
    return pl.DataFrame(
        [
            {
                "id": name, "prompt_id": "p", "response_id": name, "role": role, "parents": json.dumps(made_from),
                "params": json.dumps({"set": group}) if group else None, "text_hash": hash(name),
            }
            for name, role, made_from, group in rows
        ]
    )  # fmt: skip


def paired(rows: pl.DataFrame, **params: Any) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in by_role(rows, **params).iter_rows()]


def test_roles_are_crossed_and_cut_off() -> None:
    rows = responses(("a", "match", [], None), ("b", "mismatch", [], None), ("c", "mismatch", [], None), ("d", "match", [], None))
    assert paired(rows, better="match", worse="mismatch") == [("a", "b"), ("a", "c"), ("d", "b"), ("d", "c")]
    assert paired(rows, better="match", worse="mismatch", most=2) == [("a", "b"), ("a", "c")]
    assert paired(rows, better="match", worse="nothing") == []
    assert paired(rows.head(0), better="match", worse="mismatch") == []


def test_a_child_pairs_with_its_parent_only() -> None:
    rows = responses(
        ("d1", "draft", [], None), ("d2", "draft", [], None), ("r1", "revised", ["d1"], None), ("r3", "revised", ["gone"], None)
    )  # fmt: skip
    assert paired(rows, better="revised", worse="draft") == [("r1", "d1"), ("r3", "d2")]
    assert paired(rows, better="revised", worse="parents") == [("r1", "d1")]
    assert paired(rows, better="parents", worse="revised") == [("d1", "r1")]


def test_sets_keep_apart() -> None:
    rows = responses(("a", "strong", [], "x"), ("b", "weak", [], "x"), ("c", "strong", [], "y"), ("d", "weak", [], None))
    assert paired(rows, better=["strong"], worse=["weak"]) == [("a", "b")]


@pytest.mark.parametrize(("better", "worse"), [("a", "a"), ([], "b"), (["a", "b"], ["b"])])
def test_roles_on_both_sides_are_refused(better: Any, worse: Any) -> None:
    with pytest.raises(PrefdataError, match="none of them on both sides"):
        by_role(responses(("a", "x", [], None)), better=better, worse=worse)


def verdict(one: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]], **params: Any) -> str:
    """`a`, `b` or the note, for two responses by role and parents; "other" in parents stands for the other one's id."""
    prompt = Prompt(as_messages("q"))
    bare = [Response(prompt, text) for text in ("first", "second")]
    a, b = (
        Response(prompt, text, role=role, parents=tuple(bare[1 - at].id if name == "other" else name for name in made_from))
        for at, (text, (role, made_from)) in enumerate(zip(("first", "second"), (one, other), strict=True))
    )
    found = by_construction(Pair(prompt, a, b), **params)
    return found.choice if isinstance(found, Verdict) else found.note


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("strong", []), ("weak", []), "a"),
        (("violates", []), ("satisfies", []), "b"),
        (("revised", ["other"]), ("", []), "a"),
        (("sample", []), ("revised", ["x", "other"]), "b"),
        (("injected", ["other"]), ("original", []), "b"),
        (("", []), ("worsened", ["other"]), "a"),
        (("revised", ["other"]), ("revision", []), "a"),
    ],
)
def test_what_roles_say(one: Any, other: Any, expected: str) -> None:
    assert verdict(one, other) == expected
    assert verdict(other, one) == {"a": "b", "b": "a"}[expected]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("revised", ["elsewhere"]), ("draft", [])),  # a revision of another draft
        (("injected", []), ("original", [])),
        (("strong", []), ("strong", [])),
        (("best", []), ("worst", [])),  # scores say so, and scores are judged elsewhere
        (("", []), ("", [])),
        (("worsened", ["other"]), ("injected", ["other"])),  # each is said to be a spoilt version of the other
    ],
)
def test_what_roles_do_not_say(one: Any, other: Any) -> None:
    assert "do not say" in verdict(one, other)
    assert "do not say" in verdict(other, one)


def test_roles_of_ones_own() -> None:
    assert "do not say" in verdict(("expert", []), ("novice", []))
    assert verdict(("expert", []), ("novice", []), also={"expert": "novice"}) == "a"
    same = Pair(Prompt(as_messages("q")), *(Response(Prompt(as_messages("q")), "x", role=role) for role in ("strong", "weak")))
    assert isinstance(by_construction(same), Abstained)


def test_from_prompts_to_labels_by_construction(store: Store) -> None:
    """The whole way in one recipe: contrasts, pairs by role, labels without a model, and who said so."""
    ask_about(store, ["Name a tree.", "Name a bird."])
    report = prefdata.run(
        {
            "models": {"m": when("Draft.", careless_and_uninterested="Weak.", knowledgeable="Strong.", with_the_eyes_of="Better.")},
            "steps": [
                {"strategy": {"contrast_prompts": {"ask": "m", "contrasts": ["prefix", "refine"]}}},
                {"pairing": {"by_role": {"better": "strong", "worse": "weak"}}},
                {"judge": {"by_construction": {}}},
                {"aggregate": {"majority": {}}},
            ],
        },
        store,
    )
    assert [step.done for step in report.steps] == [2, 4, 4, 4]
    won = store.rows(
        """SELECT w.text, l.text, count(*) FROM newest_labels x JOIN pairs p ON p.id = x.pair_id
           JOIN responses w ON w.id = CASE x.winner WHEN 'a' THEN p.a ELSE p.b END
           JOIN responses l ON l.id = CASE x.winner WHEN 'a' THEN p.b ELSE p.a END GROUP BY ALL ORDER BY 1"""
    )
    assert won == [("Better.", "Draft.", 2), ("Strong.", "Weak.", 2)]
    assert store.rows("SELECT id, kind FROM annotators") == [("by_construction", "verifier")]
