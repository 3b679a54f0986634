"""What a golden file holds, and how it is run through the real kernel: Store, recipe, run.

A file is tests/golden/<shelf>/<method>.json: {"why": ..., "cases": [...]}. A case has

    why      how the expected values come about, by hand
    given    rows in the shapes of `core.ingest`: responses, pairs, prompts, annotations
    files    name -> text, or rows of a .parquet file; "{dir}" in a parameter is the folder they lie in
    models   the recipe's models (mock ones)
    before   recipe steps to run first
    params   of the method
    expect   what must come out; only what is named is compared (see the functions below)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.core import catalogue
from prefdata.core.ingest import COLUMNS, Batch, ingest
from prefdata.core.run import StepReport
from prefdata.core.store import Store

GOLDEN = Path(__file__).parent / "golden"
OTHER = ("losses", "heads")
"""Shelves of the trainer: functions of tensors, with golden files and tests of their own under tests/train."""
STEP = {shelf: step for step, shelf in catalogue.STEP_NAMES.items()}
_ALWAYS = ("line", "source", "subset", "item_id", "meta")


def golden(shelf: str, name: str) -> dict[str, Any]:
    """The golden file of one method."""
    found: dict[str, Any] = json.loads((GOLDEN / shelf / f"{name}.json").read_text(encoding="utf-8"))
    return found


def fill(store: Store, given: Mapping[str, Any]) -> None:
    """Put rows into the store, each kind as one batch."""
    for kind in ("prompts", "responses", "pairs", "annotations"):
        rows = given.get(kind)
        if rows:
            schema = {name: dtype for name, dtype in COLUMNS[kind].items() if any(name in row for row in rows)}
            extra = dict.fromkeys((n for n in _ALWAYS if any(n in row for row in rows)), pl.String)
            unknown = {name for row in rows for name in row} - set(COLUMNS[kind]) - set(_ALWAYS)
            assert not unknown, f"no columns of {kind}: {unknown}"
            counts = ingest(store, [Batch(kind, pl.DataFrame(rows, schema={**schema, **extra}))])
            assert not counts.rejects, counts.rejects


def run_case(shelf: str, name: str, case: Mapping[str, Any], folder: Path) -> tuple[Store, StepReport]:
    """Store and report of the method's step after the case has run."""
    store = Store(folder / "store.duckdb")
    fill(store, case.get("given", {}))
    for file, content in case.get("files", {}).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".parquet"):
            pl.DataFrame(content).write_parquet(folder / file)
        else:
            (folder / file).write_text(content, encoding="utf-8")
    params = {key: _placed(value, folder) for key, value in case["params"].items()}
    if shelf == "exports":
        params = {"out": str(folder / "out"), "test": 0.0, "format": "jsonl", **params}
    steps = [*case.get("before", []), {STEP[shelf]: {name: params}}]
    report = prefdata.run({"models": case.get("models", {}), "steps": steps, "seed": case.get("seed", 0)}, store)
    return store, report.steps[-1]


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_placed(item, folder) for item in value]
    return value.replace("{dir}", str(folder)) if isinstance(value, str) else value


def same(got: Any, want: Any, where: str) -> None:
    """Equal, numbers within a millionth; of mappings only the wanted keys."""
    if isinstance(want, Mapping):
        for key, value in want.items():
            assert key in got, f"{where}: no {key!r} in {sorted(got)}"
            same(got[key], value, f"{where}.{key}")
    elif isinstance(want, list):
        assert len(got) == len(want), f"{where}: {got}"
        for number, (one, other) in enumerate(zip(got, want, strict=True)):
            same(one, other, f"{where}[{number}]")
    elif isinstance(want, float | int) and not isinstance(want, bool):
        assert got == pytest.approx(want, rel=1e-6, abs=1e-6), where
    else:
        assert got == want, where


def check(shelf: str, store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    _CHECKS[shelf](store, report, case, folder)


def _by_item(store: Store, sql: str) -> dict[str, dict[str, Any]]:
    """Rows of `sql` (with pair_id) by the item id that the golden file gave the pair."""
    rows = store.frame(f"SELECT i.item_id, i.swapped, x.* FROM ({sql}) x JOIN items i ON i.subject = x.pair_id AND i.kind = 'pair'")
    return {row["item_id"]: row for row in rows.iter_rows(named=True)}


def _pairing(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    rows = store.rows("SELECT a_text, b_text FROM pair_texts")
    assert sorted(map(sorted, rows)) == sorted(map(sorted, case["expect"]))


def _judges(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    if isinstance(case["expect"], Mapping):
        return _tables(store, report, case, folder)
    rows = store.frame(
        """SELECT r.text AS response, o.state, o.note, x.score, x.scores, x.rationale FROM outcomes o JOIN responses r ON r.id = o.subject
           LEFT JOIN annotations x ON x.subject = o.subject AND x.key = o.key WHERE o.key = ?""",
        [report.key],
    )
    got = {row["response"]: {**row, "scores": json.loads(row["scores"] or "null")} for row in rows.iter_rows(named=True)}
    same(got, {want["response"]: want for want in case["expect"]}, "judgements")
    assert len(got) == len(case["expect"])
    return None


def _aggregate(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    got = _by_item(store, f"SELECT * FROM labels WHERE key = '{report.key}'")
    for row in got.values():
        if row["swapped"]:
            row["winner"] = {"a": "b", "b": "a"}.get(row["winner"], row["winner"])
            row["p_a"] = None if row["p_a"] is None else 1 - row["p_a"] - row["p_tie"]
    same(got, {want["item"]: {k: v for k, v in want.items() if k != "item"} for want in case["expect"]}, "labels")
    assert len(got) == len(case["expect"]), sorted(got)


def _signals(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    found = store.frame(
        """SELECT coalesce(i.item_id, r.text, json_extract_string(p.messages, '$[#-1].content')) AS subject, s.name, s.value
           FROM signals s LEFT JOIN items i ON i.subject = s.subject AND i.kind = 'pair'
           LEFT JOIN responses r ON r.id = s.subject LEFT JOIN prompts p ON p.id = s.subject WHERE s.key = ?""",
        [report.key],
    )
    got: dict[str, dict[str, float | None]] = {}
    for subject, name, value in found.iter_rows():
        got.setdefault(subject, {})[name] = value
    subjects = ("item", "response", "prompt")
    wanted = {next(want[k] for k in subjects if k in want): {k: v for k, v in want.items() if k not in subjects} for want in case["expect"]}
    same(got, wanted, "signals")
    assert len(got) == len(wanted)


def _filters(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    got = _by_item(store, f"SELECT pair_id, reason FROM decisions WHERE key = '{report.key}'")
    assert {item: row["reason"] for item, row in got.items()} == case["expect"]


def _acquire(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    got: Iterable[dict[str, Any]] = _by_item(store, f"SELECT rowid AS row, * FROM queue WHERE key = '{report.key}'").values()
    got = sorted(got, key=lambda row: row["item_id"] if case.get("any_order") else row["row"])
    same([{**row, "item": row["item_id"]} for row in got], case["expect"], "queue")


def _audits(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    same(report.detail, case["expect"], "report")


def _exports(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    files = sorted((folder / "out" / "data").iterdir())
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    same(rows, case["expect"], "rows")
    if "columns" in case:
        assert list(rows[0]) == case["columns"]


def _tables(store: Store, report: StepReport, case: Mapping[str, Any], folder: Path) -> None:
    """`counts` of tables, number of `rejects` (or failed rows), and `rows` of SELECTs, in order."""
    expect = case["expect"]
    got = {table: store.value(f"SELECT count(*) FROM {table}") for table in expect.get("counts", {})}
    same(got, expect.get("counts", {}), "counts")
    assert report.failed == expect.get("rejects", 0)
    for sql, wanted in expect.get("rows", {}).items():
        same([list(row) for row in store.rows(sql)], wanted, sql)


_CHECKS = {
    "pairing": _pairing,
    "judges": _judges,
    "aggregate": _aggregate,
    "signals": _signals,
    "filters": _filters,
    "acquire": _acquire,
    "audits": _audits,
    "exports": _exports,
    "sources": _tables,
    "strategies": _tables,
}
