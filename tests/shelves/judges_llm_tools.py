"""What the tests of judging models share: a store filled by hand, a run, and what was asked in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import prefdata
from prefdata.core.run import StepReport
from prefdata.core.store import Store
from tests.golden_cases import fill

A, B, TIE = '{"choice": "A"}', '{"choice": "B"}', '{"choice": "tie"}'


def mock(replies: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "mock", "replies": replies, **more}


def prefers(text: str, reason: str = "") -> dict[str, Any]:
    """A script that names `text` wherever it is shown."""
    start = f"{reason}\n" if reason else ""
    return {"contains": {f"\n{text}\n</response_a": start + A, f"\n{text}\n</response_b": start + B}}


def pair(prompt: str = "q", a: str = "one", b: str = "two", **more: Any) -> dict[str, Any]:
    return {"source": "t", "item_id": prompt[:40], "prompt": prompt, "response_a": a, "response_b": b, **more}


def responses(*texts: str, prompt: str = "q", **more: Any) -> list[dict[str, Any]]:
    return [{"source": "t", "item_id": prompt[:40], "prompt": prompt, "text": text, **more} for text in texts]


def judge(
    folder: Path, rows: Mapping[str, Any], step: Mapping[str, Any], *more: Mapping[str, Any], **models: Any
) -> tuple[Store, StepReport]:
    """Fill a store, run judge steps, and give the store and the last step's report."""
    store = Store(folder / "s.duckdb")
    fill(store, rows)
    recipe = {"models": models, "steps": [{"judge": dict(one)} for one in (step, *more)]}
    return store, prefdata.run(recipe, store).steps[-1]


def asked(store: Store) -> list[dict[str, str]]:
    """Role -> content of every request, in the order of their ids."""
    found = [json.loads(row[0])["messages"] for row in store.rows("SELECT request FROM calls ORDER BY id")]
    return [{message["role"]: message["content"] for message in messages} for messages in found]


def won(store: Store) -> list[tuple[Any, ...]]:
    """Annotator and the text that won (or tie, abstain), of every verdict."""
    return store.rows(
        """SELECT x.annotator_id, CASE x.choice WHEN 'a' THEN p.a_text WHEN 'b' THEN p.b_text ELSE x.choice END
           FROM annotations x JOIN pair_texts p ON p.pair_id = x.subject WHERE x.annotator_kind = 'llm' ORDER BY ALL"""
    )


def notes(store: Store) -> list[str]:
    """What outcomes other than done say."""
    return [row[0] for row in store.rows("SELECT note FROM outcomes WHERE state <> 'done' ORDER BY note")]
