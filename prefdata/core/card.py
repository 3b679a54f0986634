"""The dataset card of an export: README.md with the Hub's front matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from prefdata.core.columns import Keys
from prefdata.core.store import Store


def write(store: Store, folder: Path, manifest: dict[str, Any], keys: Keys, plan: pl.DataFrame) -> None:
    """Write `folder/README.md`."""
    (folder / "README.md").write_text("---\nlicense: other\n---\n", encoding="utf-8")
