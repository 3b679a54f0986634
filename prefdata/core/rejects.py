"""Refused rows go to a file beside the store, one JSON object a line, so that nothing is lost silently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from prefdata.core.rows import Reject
from prefdata.core.store import Store


def write_rejects(store: Store, path: Path, rejects: Sequence[Reject]) -> Path | None:
    """Write `<name>.rejects.jsonl` beside the store; replaced when the same file is imported again, removed when nothing is refused then.

    Another file of the same name gets its folder's name before it: pairs/x.jsonl and votes/x.jsonl keep theirs apart.
    """
    target = store.path.parent / f"{path.name}.rejects.jsonl"
    if target.exists() and not _is_of(target, path):
        target = target.with_name(f"{path.absolute().parent.name}-{target.name}")
    if not rejects:
        if target.exists() and _is_of(target, path):
            target.unlink()
        return None
    with target.open("w", encoding="utf-8") as file:
        for reject in sorted(rejects, key=lambda r: (r.file, r.line)):
            file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
    return target


def _is_of(target: Path, path: Path) -> bool:
    """Whether the rows in `target` were refused from this file, or from files of this folder."""
    try:
        with target.open(encoding="utf-8") as file:
            return str(json.loads(file.readline())["file"]).startswith(str(path))
    except (ValueError, KeyError):
        return True
