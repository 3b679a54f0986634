"""Read an export back: a folder that prefdata wrote, a plain folder, or one .jsonl or .parquet file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.core.errors import PrefdataError

SPLITS = ("train", "validation", "test")
KINDS: dict[str, tuple[str, ...]] = {
    "dpo": ("prompt", "chosen", "rejected"),
    "kto": ("prompt", "completion", "label"),
    "rm": ("chosen", "rejected"),
    "lists": ("prompt", "responses"),
    "scored": ("prompt", "completion"),
}
"""What a file without a manifest is taken for: the first kind whose columns are all there."""

_SHARD = re.compile(rf"({'|'.join(SPLITS)})(?:-(\d{{5}})-of-(\d{{5}}))?\.(parquet|jsonl)")


@dataclass(frozen=True)
class Export:
    """The rows of an export by split, and what its manifest says about them (empty where there is none)."""

    path: Path
    kind: str
    splits: dict[str, pl.DataFrame]
    manifest: dict[str, Any]
    fingerprint: str
    """SHA-256 over names and contents of the data files."""

    @property
    def held_out(self) -> str | None:
        """The split to measure on: validation, else test, else none."""
        return next((s for s in ("validation", "test") if s in self.splits and self.splits[s].height), None)


def load_export(path: str | Path) -> Export:
    """Read an export folder or a single data file; what is broken or missing is named with its file."""
    path = Path(path)
    if not path.exists():
        raise PrefdataError(
            f"the export {str(path)!r} does not exist; give a folder that `prefdata export` wrote, or a .jsonl or .parquet file."
        )
    manifest = _manifest(path) if path.is_dir() else {}
    files = _files(path)
    hashes = {name: _sha256(file) for shards in files.values() for name, file in shards}
    _check_hashes(path, manifest, hashes)
    splits = {split: _read(split, shards) for split, shards in files.items()}
    kind = str(manifest.get("kind") or _kind(path, splits))
    digest = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    return Export(path, kind, splits, manifest, digest)


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    if not file.exists():
        return {}
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PrefdataError(f"{file} is not JSON ({error}); export again, or remove it to read the folder as plain files.") from None
    if not isinstance(manifest, dict):
        raise PrefdataError(f"{file} holds a {type(manifest).__name__}, not an object; export again, or remove it.")
    return manifest


def _files(path: Path) -> dict[str, list[tuple[str, Path]]]:
    """Per split its files, in order, each with its name inside the export."""
    if path.is_file():
        if path.suffix not in (".jsonl", ".parquet"):
            raise PrefdataError(f"{str(path)!r} is neither .jsonl nor .parquet; give one of these, or a folder of them.")
        return {"train": [(path.name, path)]}
    found: dict[str, list[tuple[str, Path]]] = {}
    for folder in (path / "data", path):
        for file in sorted(folder.glob("*")):
            match = _SHARD.fullmatch(file.name)
            if match and file.is_file():
                found.setdefault(match[1], []).append((file.relative_to(path).as_posix(), file))
        if found:
            break
    if not found:
        raise PrefdataError(
            f"{str(path)!r} holds no data: expected data/train-00000-of-00001.parquet or train.jsonl (also validation, test); "
            "run `prefdata export` first."
        )
    for split, shards in found.items():
        _check_shards(split, [file for _, file in shards])
    return {split: found[split] for split in SPLITS if split in found}


def _check_shards(split: str, files: list[Path]) -> None:
    """All of NNNNN shards and nothing beside them."""
    matches = [m for m in (_SHARD.fullmatch(f.name) for f in files) if m]
    expected = int(matches[0][3] or 1)
    if len({(m[3], m[4]) for m in matches}) > 1 or len(matches) > expected:
        names = ", ".join(f.name for f in files[:4])
        raise PrefdataError(f"the split {split!r} of {files[0].parent} is there more than once ({names}); keep one set of files.")
    if len(matches) < expected:
        raise PrefdataError(f"the split {split!r} of {files[0].parent} has {len(matches)} of {expected} shards; export again.")


def _check_hashes(path: Path, manifest: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    listed = manifest.get("files")
    if not isinstance(listed, Mapping):
        return
    for name, want in listed.items():
        if name in hashes and hashes[name] != want:
            raise PrefdataError(
                f"{path / name} is not the file its manifest.json describes (changed or broken since the export); export again, "
                "or remove manifest.json to use it as it is."
            )
        if name not in hashes and _SHARD.fullmatch(Path(name).name):
            raise PrefdataError(f"{path / name} is listed in manifest.json and missing; export again.")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(split: str, shards: list[tuple[str, Path]]) -> pl.DataFrame:
    frames = [_read_file(file) for _, file in shards]
    try:
        return pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise PrefdataError(f"the shards of split {split!r} do not have the same columns ({error}); export again.") from None


def _read_file(file: Path) -> pl.DataFrame:
    if file.stat().st_size == 0:
        raise PrefdataError(f"{file} is empty; it needs at least one row.")
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file)
        return pl.read_ndjson(file, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        where = _bad_line(file) if file.suffix == ".jsonl" else str(error).splitlines()[0]
        raise PrefdataError(f"{file} cannot be read: {where}.") from None


def _bad_line(file: Path) -> str:
    """Which line of a JSONL file is at fault, and why."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line.decode("utf-8")) if line.strip() else {}
            except ValueError as error:
                return f"line {number} is not JSON ({error})"
            if not isinstance(value, dict):
                return f"line {number} holds a {type(value).__name__}, not an object"
    return "the same column has values of different types on different lines"


def _kind(path: Path, splits: Mapping[str, pl.DataFrame]) -> str:
    columns = next(iter(splits.values())).columns
    for kind, needed in KINDS.items():
        if set(needed) <= set(columns):
            return kind
    known = " or ".join("{" + ", ".join(needed) + "}" for needed in KINDS.values())
    raise PrefdataError(
        f"{str(path)!r} has the columns {columns}; needed are {known}: `prefdata import` reads other shapes, `prefdata "
        "export` writes these."
    )
