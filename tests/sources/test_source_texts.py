"""Hostile texts survive file -> store -> frame exactly, ids are those of `core/ids.py`, and both ways of reading agree."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_helpers import plain, write

from prefdata.core import ids
from prefdata.core.ingest import ingest
from prefdata.core.reading import SHAPES, chat
from prefdata.core.reading.chat import Mode
from prefdata.core.reading.choices import choices
from prefdata.core.reading.meta import meta_json
from prefdata.core.store import Store
from prefdata.sources.csv import csv
from prefdata.sources.jsonl import jsonl
from prefdata.sources.parquet import parquet

NASTY = ["", " ", "\n", "\r\n", "\x00", "\x1e\x1f", "'; DROP TABLE prompts; --", '"{}[]\\"', "{{x}}", "\u2028\u2029", "\ufeff", "é\u0301"]
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from([*NASTY, "🧑\u200d🚀", "a" * 70_000]),
    st.text("\"'\\{}[]<>,;\n\r\t\x00\x1f", max_size=12),
)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": texts})
messages = st.lists(message, min_size=1, max_size=3)
row = st.fixed_dictionaries({"prompt": texts.filter(bool), "chosen": texts, "rejected": texts, "note": texts})
calm = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@calm
@given(st.lists(st.tuples(st.one_of(texts, messages), texts, texts), min_size=1, max_size=8))
def test_texts_and_ids_survive(rows: list[tuple[Any, str, str]]) -> None:
    rows = [*rows, ("p", "x", "")]
    wanted = [(p, x, y) for p, x, y in rows if x != y]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.duckdb")
        counts = ingest(store, jsonl(write(Path(folder) / "f.jsonl", [{"prompt": p, "chosen": x, "rejected": y} for p, x, y in rows])))
        assert counts.stored == len(wanted)
        prompts = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p, _, _ in wanted]
        prompt_ids = [ids.prompt_id(p) for p in prompts]
        found = store.frame("SELECT id::VARCHAR AS id, messages FROM prompts")
        assert dict(zip(prompt_ids, prompts, strict=True)) == dict(zip(found["id"], map(_loads, found["messages"]), strict=True))
        responses = {ids.response_id(p, t): t for p, (_, x, y) in zip(prompt_ids, wanted, strict=True) for t in (x, y)}
        assert dict(store.rows("SELECT id::VARCHAR, text FROM responses")) == responses
        pairs = {ids.pair_id(ids.response_id(p, x), ids.response_id(p, y)) for p, (_, x, y) in zip(prompt_ids, wanted, strict=True)}
        assert {row[0] for row in store.rows("SELECT id::VARCHAR FROM pairs")} == pairs


def _loads(text: str) -> Any:
    return json.loads(text)


@calm
@given(st.lists(row, min_size=1, max_size=6))
def test_all_formats_give_the_same_rows(rows: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pl.DataFrame(rows).write_parquet(place / "f.parquet")
        pl.DataFrame(rows).write_csv(place / "f.csv", quote_style="always")
        wanted = plain(jsonl(write(place / "f.jsonl", rows)))
        assert plain(parquet(place / "f.parquet")) == wanted
        assert _without(plain(csv(place / "f.csv")), "line") == _without(wanted, "line")


def _without(found: dict[str, list[dict[str, Any]]], name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows without one column and without notes that are empty, which CSV cannot tell from missing ones."""
    return {kind: [{k: v for k, v in row.items() if k != name and v != {"note": ""}} for row in rows] for kind, rows in found.items()}


@pytest.mark.parametrize("mode", ["prompt", "dialogue", "conversation"])
@calm
@given(lists=st.lists(st.one_of(st.none(), st.lists(st.one_of(message, st.just({"role": "", "content": "x"})), max_size=4)), max_size=8))
def test_vectorised_lists_are_taken_apart_as_single_ones(mode: Mode, lists: list[Any]) -> None:
    regular = pl.Series(lists, dtype=pl.List(pl.Struct({"content": pl.String, "role": pl.String})))
    fast, slow = chat.chat(regular, mode), chat.chat(lists, mode)
    assert set(fast.wrong) == set(slow.wrong)
    for one, other in zip(fast[:4], slow[:4], strict=True):
        assert isinstance(one, pl.Series)
        assert isinstance(other, pl.Series)
        assert one.to_list() == other.to_list()


@calm
@given(st.lists(st.tuples(texts, texts, texts), max_size=6))
def test_implicit_texts_are_only_cut(rows: list[tuple[str, str, str]]) -> None:
    chosen, rejected = [p + x for p, x, _ in rows], [p + y for p, _, y in rows]
    prompt, left, right = chat.implicit_texts(chosen, rejected)
    for p, x, y, whole, other in zip(prompt, left, right, chosen, rejected, strict=True):
        assert (p or "") + x == whole
        assert (p or "") + y == other
        assert p is None or x[:1].isspace() or not x


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@calm
@given(st.lists(st.fixed_dictionaries({"k": values, 'odd "name"': texts}), min_size=1, max_size=5))
def test_meta_is_the_row_without_nulls(rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    found = meta_json(columns)
    assert [_loads(text) for text in found] == [{k: v for k, v in row.items() if v is not None} for row in rows]
    typed = {'odd "name"': pl.Series(columns['odd "name"'], dtype=pl.String)}
    assert meta_json(typed).to_list() == meta_json({'odd "name"': columns['odd "name"']}).to_list()


def test_words_for_choices() -> None:
    """clearly 2, slightly 1, tie 0: strength is half of that, negative for b."""
    words = ["A", " b ", "tie", "Tie (bothbad)", "a-is-better", "B-is-clearly-better", "a is slightly better", "A>>B", "a<b", "A=B"]
    words += ["model_b", None, "1", "abstain"]
    choice, strength, unknown = choices(pl.Series(words))
    assert choice.to_list() == ["a", "b", "tie", "both_bad", "a", "b", "a", "a", "b", "tie", "b", None, None, "abstain"]
    assert strength.to_list() == [None, None, 0.0, None, None, -1.0, 0.5, 1.0, -0.5, 0.0, None, None, None, None]
    assert unknown.to_list() == [word == "1" for word in words]


WORDS = ["a", "b", "tie", "", "x", "N/A", "ab", "[1", "\n\nHuman: x\n\nAssistant: y"]
KEYS = ["role", "content", "text", "model", "score", "annotations", "Rating", "a", "b"]
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([1e308, 0.5, -1.0, 10**400, *WORDS])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
        st.just([{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_stands_in_a_row_it_is_stored_or_refused(shape: str, data: st.DataObject) -> None:
    fields = {**SHAPES[shape].needs, **SHAPES[shape].may}
    names = [columns[0] for columns in fields.values()]
    some = st.dictionaries(st.sampled_from([*names, "other"]), anything, max_size=len(names))
    rows = [dict.fromkeys(names), *data.draw(st.lists(some, max_size=6))]
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "f.jsonl", rows)
        batches = list(jsonl(file, shape=shape))
        lines = {line for batch in batches if not batch.frame.is_empty() for line in batch.frame["line"]}
        lines |= {reject.line for batch in batches for reject in batch.rejects}
        assert lines == set(range(1, len(rows) + 1))
        counts = ingest(Store(Path(folder) / "s.duckdb"), batches)
        assert counts.read == counts.stored + counts.known + len(counts.rejects) >= len(rows)
