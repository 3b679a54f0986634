"""Methods written for one test, and rows to run them on."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.core import catalogue
from prefdata.core.ingest import Batch, ingest
from prefdata.core.run import StepReport
from prefdata.core.store import Store

HEAD = """
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Optional
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Embed, Policy, Reward, Sandbox
from prefdata.core.rows import Abstained, Group, Judged, Pair, Prompt, Response, Score, Verdict
"""
Plug = Callable[[str, str, str], Path]


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    """`plug("judges", "mine", code)` puts a method on a shelf for the length of a test."""
    root = tmp_path / "plug"
    root.mkdir()
    catalogue.add_plugins(root)

    def add(shelf: str, name: str, code: str) -> Path:
        path = root / shelf / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""For a test."""\n{HEAD}\n{textwrap.dedent(code)}', encoding="utf-8")
        catalogue.shelf_methods.cache_clear()
        return path

    yield add
    catalogue._plugins.clear()
    catalogue.shelf_methods.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


def respond(store: Store, texts: Mapping[str, Sequence[str]], source: str = "t") -> None:
    """Responses by prompt."""
    rows = [{"source": source, "item_id": prompt, "prompt": prompt, "text": text} for prompt, given in texts.items() for text in given]
    frame = pl.DataFrame(rows).with_row_index("line", 1)
    ingest(store, [Batch("responses", frame)])


def mock(reply: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "mock", "replies": reply, **more}


def run(store: Store, *steps: Any, models: Mapping[str, Any] | None = None, **options: Any) -> list[StepReport]:
    top = {k: options.pop(k) for k in ("seed", "only") if k in options}
    return prefdata.run({"models": dict(models or {}), "steps": list(steps), **top}, store, **options).steps
