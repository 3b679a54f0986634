"""Scripted models for every strategy, and ways to run one on prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

import prefdata
from prefdata.core.ids import canonical_messages
from prefdata.core.ingest import Batch, ingest
from prefdata.core.run import Report
from prefdata.core.store import Store

LEAD = "Say what you think of this text: "
MANY = [f"Answer {i}." for i in range(499)]
"""Two requests of one row rarely draw the same of these, and never by chance: the draw hangs on the request alone."""


def mock(replies: Any) -> dict[str, Any]:
    return {"kind": "mock", "replies": replies}


def when(default: Any = None, /, **needles: Any) -> dict[str, Any]:
    """A script by needles; underscores stand for spaces."""
    rule: dict[str, Any] = {"contains": {needle.replace("_", " "): reply for needle, reply in needles.items()}}
    return mock(rule if default is None else {**rule, "default": default})


SCRIPTS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sample_n": ({"m": mock(["One.", "Two."])}, {"ask": "m", "n": 2}),
    "pool": ({"m": mock("One."), "k": mock("Two.")}, {"asks": ["m", "k"], "n": 2}),
    "clair": (
        {"m": mock("Draft."), "t": mock("<reasoning>why</reasoning><revised_answer>Better.</revised_answer>")},
        {"ask": "m", "teacher": "t"},
    ),
    "critique_revise": (
        {"m": when("Draft.", A_reviewer_has_read="Better."), "c": mock("<critique>thin</critique><verdict>revise</verdict>")},
        {"ask": "m", "critic": "c"},
    ),
    "contrast_prompts": (
        {"m": when("Draft.", careless_and_uninterested="Weak.", with_the_eyes_of="Better.", what_a_poor_answer="bad notes")},
        {"ask": "m"},
    ),
    "contrast_models": ({"m": mock("Good."), "k": mock("Bad.")}, {"strong": "m", "weak": "k"}),
    "negative_correlation": (
        {"m": mock("<people_1>p</people_1><answer_1>One.</answer_1><people_2>q</people_2><answer_2>Two.</answer_2>")},
        {"ask": "m", "n": 2},
    ),
    "rubric_levels": (
        {"m": mock({"contains": {'level "low"': "Low.", 'level "middle"': "Middle.", 'level "high"': "High."}})},
        {"ask": "m"},
    ),
    "verbal_feedback": (
        {
            "m": when("Base.", Your_user_has_given="Revised."),
            "w": when(
                "<applies>no</applies><in_scope>A mail.</in_scope><near_scope>A letter.</near_scope>",
                Name_30_kinds='{"categories": ["mails", "letters"]}',
            ),
        },
        {"ask": "m", "writer": "w", "feedback": "Be brief in mails."},
    ),
    "reverse_constraints": (
        {
            "m": mock(["One.", "Two."]),
            "c": mock(
                {
                    "contains": {
                        "List the constraints": json.dumps(
                            {"constraints": [{"quote": LEAD.strip(), "reverse": "Do not speak about this: "}]}
                        ),
                        "One.": '{"met": [true]}',
                        "Two.": '{"met": [false]}',
                    }
                }
            ),
        },
        {"ask": "m", "critic": "c", "n": 2},
    ),
    "inject_error": (
        {"m": mock("True."), "e": mock("<injected_errors>one</injected_errors><changed_answer>False.</changed_answer>")},
        {"ask": "m", "editor": "e"},
    ),
    "persona": ({"m": mock(MANY)}, {"ask": "m"}),
    "short_to_long": (
        {"m": mock(MANY), "w": mock("<instruction>What is it about?</instruction>")},
        {"ask": "m", "writer": "w", "passage_chars": 30},
    ),
    "ugc": (
        {"m": mock(["One.", "Two."]), "w": mock("<verdict>keep</verdict><question>What is it?</question>")},
        {"ask": "m", "writer": "w", "n": 2},
    ),
    "evolve_prompt": (
        {"m": mock("One."), "w": mock("<new_message>A harder question.</new_message>")},
        {"ask": "m", "writer": "w"},
    ),
    "textual_gradient": (
        {
            "m": when(["One.", "Two."], An_editor_has_looked="Three.", People_would_prefer="loss", What_should_be_changed="gradient"),
            "c": mock({"contains": {"\nOne.\n": '{"score": 3}', "\nTwo.\n": '{"score": 5}', "\nThree.\n": '{"score": 8}'}}),
        },
        {"ask": "m", "critic": "c", "width": 2, "rounds": 1},
    ),
}
"""Name -> models and parameters with which the strategy gives responses on any prompt."""


def ask_about(store: Store, prompts: Sequence[str | Mapping[str, Any]]) -> None:
    """Store prompts: texts, or rows with further columns; messages as a list."""
    rows = [{"prompt": prompt} if isinstance(prompt, str) else _row(prompt) for prompt in prompts]
    frame = pl.DataFrame([{"line": i, "source": "t", "item_id": str(i), **row} for i, row in enumerate(rows, 1)], infer_schema_length=None)
    assert not ingest(store, [Batch("prompts", frame)]).rejects


def _row(given: Mapping[str, Any]) -> dict[str, Any]:
    messages = given.get("messages")
    said = {"messages": json.dumps(messages), "canonical": canonical_messages(messages)} if messages else {}
    return {**given, **said}


def strategy(store: Store, name: str, *more: Any, plan: bool = False, seed: int = 0, models: Any = None, **params: Any) -> Report:
    """Run one strategy by its script, and further steps after it; parameters given here come on top."""
    scripted, given = SCRIPTS[name]
    recipe = {"models": {**scripted, **(models or {})}, "steps": [{"strategy": {name: {**given, **params}}}, *more], "seed": seed}
    return prefdata.run(recipe, store, plan=plan)


def notes(store: Store) -> list[tuple[str, str | None]]:
    return [(row[0], row[1]) for row in store.rows("SELECT state, note FROM outcomes WHERE key LIKE 'strategies/%' ORDER BY 1, 2")]


def requests(store: Store) -> list[dict[str, Any]]:
    return [json.loads(row[0]) for row in store.rows("SELECT request FROM calls ORDER BY id")]


def write(folder: Path, text: str) -> str:
    path = folder / "own.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)
