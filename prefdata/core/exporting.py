"""Kept pairs -> a folder a trainer reads: split, sharded, with manifest and card, byte for byte the same every time.

An export method turns one frame of kept pairs into one frame of train-ready rows; this file does the rest. Decisions are
taken on narrow columns; texts are then read shard by shard, in the order in which they were imported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
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
    index = _index(context, needs, options)
    report.rows_in = index.height
    report.detail |= {"no_winner": index["split"].null_count(), "out": str(out)}
    fingerprint = _fingerprint(index.select("id", "split"))
    if _is_there(out, key, fingerprint):
        report.had = report.rows_in
    if context.plan or report.had:
        return report
    context.progress.start(report.step, report.rows_in)
    if report.detail["no_winner"]:
        index = index.filter(pl.col("split").is_not_null())
    manifest = _write(context, bound, key, fingerprint, index, options)
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


def _index(context: Context, needs: Sequence[str], options: Mapping[str, Any]) -> pl.DataFrame:
    """Every pair kept, in store order: where its texts stand, what the method and the card need, and its split (null: no side won).

    The share is drawn from a hash of the prompt's text and the seed: a prompt (or its exact twin) never parts, and a
    prompt that was in the test split stays there when the data grows.
    """
    u = "md5_number_lower(x.twin::VARCHAR || $seed) / 18446744073709551616.0"
    split = f"""CASE WHEN x.winner IS NULL OR x.winner NOT IN ('a', 'b') THEN NULL
        WHEN {u} < $test THEN 'test' WHEN {u} < $test + $validation THEN 'validation' ELSE 'train' END"""
    given = {"test": options["test"], "validation": options["validation"], "seed": str(context.recipe.seed)}
    names = [*needs, "winner", "twin", "plain", *card.NEEDS]
    return locate(context.store, "pair", names, context.keys, also={"split": split}, given=given).drop("twin", *({"row"} - {*needs}))


def _fingerprint(plan: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for part in plan.iter_slices(100_000):
        digest.update(part.write_csv(include_header=False).encode())
    return digest.hexdigest()


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


def _write(context: Context, bound: Bound, key: str, fingerprint: str, index: pl.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write into a folder beside `out`, then exchange the two: a reader never meets half an export."""
    out = Path(options["out"])
    _refuse_foreign(out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "data").mkdir(parents=True)
        counts = _write_splits(context, bound, part, index, options)
        manifest = {
            "kind": bound.method.name,
            "key": key,
            "fingerprint": fingerprint,
            "counts": counts,
            "keys": _keys(context.keys),
            "recipe": _portable(context, options),
            "files": {},
        }
        card.write(context.store, part, manifest, context.keys, index, dict(context.recipe.licences))
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


def _write_splits(context: Context, bound: Bound, part: Path, index: pl.DataFrame, options: Mapping[str, Any]) -> dict[str, int]:
    """Write every split's shards; returns rows per split."""
    needs, params = list(bound.method.header["needs"]), dict(bound.params)
    if "conversational" in params:
        if params["conversational"] is None:  # one prompt that came as chat messages: then all rows are exported so
            params["conversational"] = not index["plain"].all()
        needs.remove("prompt" if params["conversational"] else "messages")  # a prompt is read in one form only
    function = bound.method.load()
    rows = dict(index.group_by("split").len().iter_rows())
    shards = {split: _Shards(split, rows.get(split, 0), options["shard_rows"]) for split in SPLITS if rows.get(split)}
    for frame in read(context.store, "pair", index, [*needs, "split"]):
        pieces = frame.partition_by("split", as_dict=True, maintain_order=True, include_key=False)
        for (split,), piece in pieces.items():
            # A few rows cut out of a chunk would keep all of its texts in memory: copy them.
            piece = piece if 2 * piece.height > frame.height else pl.DataFrame(piece.to_arrow(compat_level=pl.CompatLevel.oldest()))
            for name, full in shards[split].add(piece):
                _write_shard(function(full, **params), part / "data" / f"{name}.{options['format']}", shards[split])
        context.progress.advance(done=frame.height)
    return {split: shards[split].written for split in shards}


class _Shards:
    """Rows of one split, handed out again in frames of `size` rows."""

    def __init__(self, split: str, rows: int, size: int) -> None:
        self.split, self.left, self.size, self.files = split, rows, size, -(-rows // size)
        self.waiting: list[pl.DataFrame] = []
        self.number = self.written = 0

    def add(self, piece: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        """File name and rows of every shard that `piece` fills."""
        while piece.height:
            room = min(self.size, self.left) - sum(p.height for p in self.waiting)
            self.waiting.append(piece.head(room))
            piece = piece.slice(room)
            if self.waiting[-1].height < room:
                return
            full = pl.concat(self.waiting, rechunk=True)
            self.waiting, self.left = [], self.left - full.height
            yield f"{self.split}-{self.number:05d}-of-{self.files:05d}", full
            self.number += 1


def _write_shard(made: pl.DataFrame, file: Path, shards: _Shards) -> None:
    if file.suffix == ".parquet":
        made.write_parquet(file, compression="zstd", compression_level=1)  # a tenth larger, a third faster
    else:
        made.write_ndjson(file)
    shards.written += made.height


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
