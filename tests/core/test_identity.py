"""Identities are the same in Python and in SQL, whatever the text."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata.core import ids
from prefdata.core.ingest import Batch, ingest
from prefdata.core.store import Store

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, st.sampled_from(["", "m1", "m|2"])), min_size=1, max_size=12))
def test_ids_agree_and_texts_come_back(rows: list[tuple[str, str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.duckdb")
        frame = pl.DataFrame(
            {"prompt": p, "response_a": a, "response_b": b, "model_a": m or None, "model_b": "other"} for p, a, b, m in rows
        ).with_columns(model_a=pl.col("model_a").cast(pl.String))
        ingest(store, [Batch("pairs", frame)])
        stored = {str(i): t for i, t in store.rows("SELECT id, text FROM responses")}
        prompts = {str(i) for (i,) in store.rows("SELECT id FROM prompts")}
        pairs = {str(i) for (i,) in store.rows("SELECT id FROM pairs")}
        for p, a, b, m in rows:
            prompt = ids.prompt_id([{"role": "user", "content": p}])
            first, second = ids.response_id(prompt, a, m), ids.response_id(prompt, b, "other")
            assert prompt in prompts
            if first != second:
                assert stored[first] == a
                assert stored[second] == b
                assert ids.pair_id(first, second) in pairs


def test_every_part_of_a_message_is_part_of_the_identity() -> None:
    base = [{"role": "user", "content": "hi"}]
    others = [
        [{"role": "system", "content": "hi"}],
        [{"role": "user", "content": "hi", "name": "ann"}],
        [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        [{"role": "user", "content": "h"}, {"role": "user", "content": "i"}],
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
    ]
    assert len({ids.prompt_id(m) for m in [base, *others]}) == 6
    assert ids.prompt_id([{"content": "hi", "role": "user"}]) == ids.prompt_id(base)
    assert ids.prompt_id([{"content": "hi", "role": "user", "name": None}]) == ids.prompt_id(base)


def test_pair_identity_has_no_order() -> None:
    assert ids.pair_id("x", "y") == ids.pair_id("y", "x")
