"""The report page: escaped, self-contained, with plots."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from prefdata.core import report, svg
from prefdata.core.ingest import Batch, ingest
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store

HOSTILE = "<script>alert(1)</script>"


def test_page_about_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    frame = pl.DataFrame(
        {"prompt": ["p", "q"], "response_a": ["xx", "yy"], "response_b": ["x", "y"], "label": ["a", "b"], "annotator_id": [HOSTILE] * 2}
    )
    ingest(store, [Batch("pairs", frame)])
    execute(store, parse({"steps": [{"aggregate": "majority"}, {"signal": "length_margin"}, {"filter": "no_ties"}]}))
    (tmp_path / "t").mkdir()
    rows = [{"step": n, "loss": 1 / (n + 1)} for n in range(5)]
    (tmp_path / "t" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    page = report.build(store, [tmp_path / "t"])
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "http://" not in page
    assert page.count("<svg") >= 5
    assert "filter no_ties" in page


def test_plots_of_nothing_and_of_one_value() -> None:
    assert "nothing to show" in svg.bars({})
    assert "nothing to show" in svg.lines({})
    assert "<polyline" in svg.lines({"x": [(0.0, 1.0)]})
    assert svg.histogram({"x": [3, 0]}, [0, 1, 2]).count("<rect") == 2
    assert "&lt;b&gt;" in svg.bars({"<b>": 1})


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    with store.write():
        pass
    assert "no run yet" in report.build(store)
