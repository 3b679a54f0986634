"""Signals on the real sets: what they find is what a plain look at the files finds.

The sets are read from PREFDATA_REAL_DATA (default: ../shared/data beside the project); without them the tests skip.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.core.langid import languages
from prefdata.core.minhash import near_duplicates
from prefdata.core.pii import counts
from prefdata.core.refusals import is_refusal
from prefdata.core.store import Store
from prefdata.core.text import language

DATA = Path(os.environ.get("PREFDATA_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at {DATA}; set PREFDATA_REAL_DATA")


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / "pairs" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def answers(*names: str) -> pl.Series:
    return pl.Series([str(row[side]) for name in names for row in rows(name) for side in ("response_a", "response_b")])


def test_copies_and_conflicts_of_persona_evals(tmp_path: Path) -> None:
    """Statements that stand in several subsets: in other words only by case and space, with the same label or the opposite one."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)  # trimmed and lower-cased statement -> text that wins -> pairs
    votes: dict[str, set[str]] = defaultdict(set)
    for row in rows("persona_evals"):
        votes[row["prompt"]].add(row["response_a" if row["label"] == "a" else "response_b"])
    for prompt, won in votes.items():
        labels[prompt.strip(" ").lower()]["undecided" if len(won) > 1 else won.pop()] += 1
    store = Store(tmp_path / "store.duckdb")
    source = {"source": {"jsonl": {"path": str(DATA / "pairs" / "persona_evals.jsonl.gz")}}}
    prefdata.run({"steps": [source, {"aggregate": "majority"}, {"signal": "exact_duplicate"}, {"signal": "contradiction"}]}, store)
    found = dict(store.rows("SELECT name, count(*) FILTER (value > 0) FROM signals GROUP BY 1"))
    sizes = [sum(group.values()) for group in labels.values()]
    decided = [[n for won, n in group.items() if won != "undecided"] for group in labels.values()]
    assert found["copy_rank"] == sum(size - 1 for size in sizes) > 50
    assert found["same_text"] == 0
    assert found["contradicted_by"] == sum(sum(group) for group in decided if len(group) > 1) > 0
    assert found["confirmed_by"] == sum(n for group in decided for n in group if n > 1) > 50
    [(undecided,)] = store.rows("SELECT count(*) FROM newest_labels WHERE winner IS NULL")
    assert undecided == sum(group["undecided"] for group in labels.values()) > 0


def test_near_copies_of_persona_evals_are_near() -> None:
    statements = [row["prompt"].split('"')[1] for row in rows("persona_evals") if row["prompt"].count('"') == 2][:5000]
    found = near_duplicates(pl.Series(statements), n=2)
    members = [(place, first) for place, first in enumerate(found.first.tolist()) if place != first]

    def grams(text: str) -> set[tuple[str, ...]]:
        cut = "".join(sign if sign.isalnum() or sign == "_" else " " for sign in text.lower()).split()
        return {tuple(cut[k : k + 2]) for k in range(len(cut) - 1)} or {tuple(cut)}

    assert len(members) > 20
    for place, first in members:
        one, other = grams(statements[place]), grams(statements[first])
        assert found.similarity[place] == pytest.approx(len(one & other) / len(one | other))


def test_languages_agree_with_the_guess_for_one_text() -> None:
    texts = answers("llmfao", "hh_rlhf_harmless_test").unique(maintain_order=True).head(3000)
    both = [(one, other) for one, other in zip(languages(texts), map(language, texts), strict=True) if one and other]
    assert len(both) > 2000
    assert sum(one == other for one, other in both) / len(both) > 0.99


def test_hh_refuses_and_holds_few_numbers_of_people() -> None:
    texts = answers("hh_rlhf_harmless_test")
    declined = is_refusal(texts)
    assert 0.01 < (declined.mean() or 0) < 0.05
    assert declined.null_count() == sum(not text.strip() for text in texts)
    assert counts(texts).select(pl.col("iban", "card", "secret").sum()).row(0) == (0, 0, 0)
