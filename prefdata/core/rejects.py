"""Refused rows go to a file beside the store, one JSON object a line, so that nothing is lost silently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from prefdata.core.rows import Reject
from prefdata.core.store import Store


def write_rejects(store: Store, path: Path, rejects: Sequence[Reject]) -> Path:
    """Write `<name>.rejects.jsonl` beside the store; replaced when the same file is imported again."""
    target = store.path.parent / f"{path.name}.rejects.jsonl"
    with target.open("w", encoding="utf-8") as file:
        for reject in sorted(rejects, key=lambda r: (r.file, r.line)):
            file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
    return target
