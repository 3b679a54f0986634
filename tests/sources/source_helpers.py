"""What the tests of the sources share: batches as plain rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefdata.core.ingest import Batch

JSON = ("meta", "prompt_meta", "scores", "messages")


def plain(batches: Iterable[Batch]) -> dict[str, list[dict[str, Any]]]:
    """Rows by kind without nulls, JSON texts as values, and the refusals under `rejects`."""
    out: dict[str, list[dict[str, Any]]] = {}
    for batch in batches:
        for row in batch.frame.to_dicts():
            shown = {name: json.loads(value) if name in JSON else value for name, value in row.items() if value is not None}
            out.setdefault(batch.kind, []).append(shown)
        for reject in batch.rejects:
            out.setdefault("rejects", []).append({"line": reject.line, "field": reject.field, "reason": reject.reason})
    return out


def write(path: Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON Lines; texts are written as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")
    return path
