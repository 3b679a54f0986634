"""The identity of a local model: a hash over the files that decide its answers."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefdata.core.errors import PrefdataError

_SUFFIXES = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py")
_BLOCK = 1 << 22


def locate(path: str, revision: str | None = None) -> Path:
    """The folder of a model: a path here, or else the name of a model on the Hugging Face Hub, downloaded once."""
    folder = Path(path)
    if (folder / "config.json").is_file():
        return folder
    if folder.exists() or path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise PrefdataError(f"there is no model folder (with a config.json) at {path!r}; give its path, or the name of a model on the Hub.")
    try:
        from huggingface_hub import snapshot_download

        with suppress(Exception):
            return Path(snapshot_download(path, revision=revision, local_files_only=True))
        return Path(snapshot_download(path, revision=revision))
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise PrefdataError(f"there is no model folder at {path!r}, and the Hub does not give it: {words}") from None


def fingerprint(folder: Path) -> str:
    """SHA-256 over names and contents of config, weights and tokenizer, remembered by size and time of the files."""
    files = {
        f.relative_to(folder).as_posix(): f
        for place in (folder, *_parts(folder))
        for f in sorted(place.iterdir())
        if f.is_file() and f.suffix in _SUFFIXES and not f.name.startswith(".")
    }
    stamps = [[name, f.stat().st_size, f.stat().st_mtime_ns] for name, f in files.items()]
    memory, place = _memory(), str(folder.resolve())
    known = _remembered(memory).get(place)
    if known and known["files"] == stamps:
        return str(known["hash"])
    total = hashlib.sha256()
    for name, file in files.items():
        total.update(f"{name}\0{_hash(file)}\n".encode())
    digest = total.hexdigest()[:32]
    _remember(memory, place, {"files": stamps, "hash": digest})
    return digest


def _parts(folder: Path) -> list[Path]:
    """The folders of a sentence-transformers model's further layers, such as its pooling."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        named = [str(module["path"]) for module in modules]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return sorted(folder / name for name in named if name and (folder / name).is_dir())


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _memory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "prefdata" / "fingerprints.json"


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        data = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _remember(memory: Path, place: str, entry: dict[str, Any]) -> None:
    """Best effort: without it the files are read again next time."""
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        part = memory.with_name(f"{memory.name}.{os.getpid()}")
        part.write_text(json.dumps({**_remembered(memory), place: entry}), encoding="utf-8")
        part.replace(memory)
