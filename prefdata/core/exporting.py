"""Kept pairs -> a folder a trainer reads: split, sharded, with manifest and card, byte for byte the same every time.

An export method turns one frame of kept pairs into one frame of train-ready rows; this file does the rest. Decisions are
taken on narrow columns; texts are then read shard by shard, in the order in which they were imported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.core import card
from prefdata.core.columns import TEXTS, Keys, relation
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.ids import canonical_json
from prefdata.core.method import Param
from prefdata.core.run import Bound, Context, StepReport, record_step
from prefdata.core.scan import locate, read
from prefdata.core.store import Store

SHELF_PARAMS: dict[str, Param] = {
    "out": Param("out", "str", doc="the folder to write; replaced as a whole when the export is complete"),
    "format": Param("format", "str", "parquet", "parquet or jsonl"),
    "test": Param("test", "float", 0.1, "share of prompts held out as split 'test'"),
    "validation": Param("validation", "float", 0.0, "share of prompts held out as split 'validation'"),
    "shard_rows": Param("shard_rows", "int", 100_000, "rows per file"),
}
"""Parameters every export has, beside its method's own."""
SPLITS = ("train", "validation", "test")
WRITER = 1
"""Raised whenever files of the same rows would come out different; part of every export's key."""


def export(context: Context, bound: Bound) -> StepReport:
    """Write what the filters kept; skipped where the folder holds exactly this already."""
    options = _options(bound)
    out = Path(options["out"])
    needs = list(bound.method.header["needs"])
    rel = relation("pair", ["winner", "twin", *(n for n in needs if n not in TEXTS)], context.keys)
    chosen = {name: str(value) for name, value in options.items() if name != "out"}
    key = bound.key(context, {**rel.reads, **chosen, "seed": str(context.recipe.seed), "writer": str(WRITER)})
    report = StepReport(str(bound.step), key)
    plan = _plan(context, rel.sql, rel.parameters, options)
    report.rows_in = plan.height
    report.detail |= {"no_winner": report.rows_in - plan.filter(pl.col("split").is_not_null()).height, "out": str(out)}
    fingerprint = hashlib.sha256(plan.write_csv().encode()).hexdigest()
    if _is_there(out, key, fingerprint):
        report.had = report.rows_in
    if context.plan or report.had:
        return report
    context.progress.start(report.step, report.rows_in)
    manifest = _write(context, bound, key, fingerprint, plan.filter(pl.col("split").is_not_null()), options)
    report.done = sum(manifest["counts"].values())
    report.abstained = report.detail["no_winner"]
    record_step(context, bound, key, rows=report.rows_in)
    with context.store.write() as connection:
        connection.execute(
            "INSERT INTO exports VALUES (?, ?, ?, ?, ?, now()::TIMESTAMP)",
            [str(uuid.uuid4()), key, str(out), canonical_json(manifest), context.run_id],
        )
    return report


def _options(bound: Bound) -> dict[str, Any]:
    options = {name: bound.extra.get(name, p.default) for name, p in SHELF_PARAMS.items()}
    if "out" not in bound.extra:
        raise PrefdataError(f"{bound.step} needs  out: FOLDER.")
    if options["format"] not in ("parquet", "jsonl"):
        raise BadValue(f"{bound.step}: format", options["format"], "parquet, jsonl")
    for name in ("test", "validation"):
        if not isinstance(options[name], int | float) or not 0 <= options[name] < 1:
            raise BadValue(f"{bound.step}: {name}", options[name], "a share from 0 to below 1")
    if options["test"] + options["validation"] >= 1:
        raise BadValue(f"{bound.step}: test + validation", options["test"] + options["validation"], "a sum below 1")
    if not isinstance(options["shard_rows"], int) or options["shard_rows"] < 1:
        raise BadValue(f"{bound.step}: shard_rows", options["shard_rows"], "a whole number of rows, at least 1")
    return options


def _plan(context: Context, sql: str, parameters: Mapping[str, Any], options: Mapping[str, Any]) -> pl.DataFrame:
    """id and split of every pair kept, in store order; split is null where no side won.

    The share is drawn from a hash of the prompt's text and the seed: a prompt (or its exact twin) never parts, and a
    prompt that was in the test split stays there when the data grows.
    """
    return context.store.frame(
        f"""SELECT id, CASE WHEN winner IS NULL OR winner NOT IN ('a', 'b') THEN NULL
                WHEN u < $test THEN 'test' WHEN u < $test + $validation THEN 'validation' ELSE 'train' END AS split
            FROM (SELECT id, row, winner, md5_number_lower(twin::VARCHAR || $seed) / 18446744073709551616.0 AS u FROM ({sql}))
            ORDER BY row""",
        {**parameters, "test": options["test"], "validation": options["validation"], "seed": str(context.recipe.seed)},
    )


def _is_there(out: Path, key: str, fingerprint: str) -> bool:
    try:
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files: Mapping[str, str] = manifest.get("files", {})
    return (
        manifest.get("key") == key
        and manifest.get("fingerprint") == fingerprint
        and all((out / name).exists() and _sha256(out / name) == digest for name, digest in files.items())
    )


def _write(context: Context, bound: Bound, key: str, fingerprint: str, plan: pl.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write into a folder beside `out`, then exchange the two: a reader never meets half an export."""
    out = Path(options["out"])
    _refuse_foreign(out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "data").mkdir(parents=True)
        counts = _write_splits(context, bound, part, plan, options)
        manifest = {
            "kind": bound.method.name,
            "key": key,
            "fingerprint": fingerprint,
            "counts": counts,
            "keys": _keys(context.keys),
            "recipe": _portable(context, options),
            "files": {},
        }
        card.write(context.store, part, manifest, context.keys, plan, dict(context.recipe.licences))
        files = sorted(p for p in part.rglob("*") if p.is_file())
        manifest["files"] = {str(p.relative_to(part)): _sha256(p) for p in files}
        (part / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    except (OSError, pl.exceptions.ComputeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        if not isinstance(error, OSError) and "os error" not in str(error):  # Polars wraps what the system says about a full disk
            raise
        reason = getattr(error, "strerror", None) or str(error).rpartition("error: ")[2]
        raise PrefdataError(f"cannot write the export to {str(out)!r}: {reason}; give another  out: FOLDER.") from error
    return manifest


def _refuse_foreign(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").exists())):
        raise PrefdataError(f"{str(out)!r} exists and is no export of prefdata; give another  out: FOLDER  or move it away.")


def _write_splits(context: Context, bound: Bound, part: Path, plan: pl.DataFrame, options: Mapping[str, Any]) -> dict[str, int]:
    """Write every split's shards; returns rows per split."""
    needs, params = list(bound.method.header["needs"]), dict(bound.params)
    if "conversational" in params:
        if params["conversational"] is None:
            params["conversational"] = _conversational(context.store, plan)
        needs.remove("prompt" if params["conversational"] else "messages")  # a prompt is read in one form only
    index = locate(context.store, "pair", needs, context.keys, only=plan)
    function = bound.method.load()
    counts: dict[str, int] = {}
    for split in SPLITS:
        rows = index.filter(pl.col("split") == split)
        shards = -(-rows.height // options["shard_rows"])
        for number, frame in enumerate(read(context.store, "pair", rows, needs, options["shard_rows"])):
            made = function(frame, **params)
            name = part / "data" / f"{split}-{number:05d}-of-{shards:05d}.{options['format']}"
            if options["format"] == "parquet":
                made.write_parquet(name, compression="zstd", compression_level=1)  # a tenth larger, a third faster
            else:
                made.write_ndjson(name)
            counts[split] = counts.get(split, 0) + made.height
            context.progress.advance(done=frame.height)
    return counts


def _conversational(store: Store, plan: pl.DataFrame) -> bool:
    """Whether any kept prompt came as chat messages: then all rows are exported so."""
    found = store.frame(
        "SELECT bool_or(NOT pr.plain) AS chat FROM pairs p JOIN prompts pr ON pr.id = p.prompt_id SEMI JOIN plan ON plan.id = p.id",
        plan=plan.select("id"),
    )
    return bool(found["chat"][0])


def _keys(keys: Keys) -> dict[str, Any]:
    return {"labels": keys.labels, "signals": {n: k for n, (k, _) in sorted(keys.signals.items())}, "filters": keys.filters}


def _portable(context: Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without places on this machine."""
    recipe = context.recipe.as_dict()
    for step in recipe["steps"]:
        for methods in step.values():
            for params in methods.values():
                params.pop("out", None)
    return recipe


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
