"""What the tests of the models share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from prefdata.core.store import Store
from prefdata.models import llm
from prefdata.models.providers import Providers


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.duckdb")


@pytest.fixture(autouse=True)
def _quick_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Retries come at once; nothing is written to the user's folders; no proxy, no key of the user."""
    monkeypatch.setattr(llm, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


Use = Callable[[Providers], Coroutine[Any, Any, Any]]


@pytest.fixture
def using(store: Store) -> Callable[..., Any]:
    """`using({"m": spec}, function)`: run an async function with Providers, close them, give (result, providers)."""

    def run(specs: dict[str, Any], function: Use, **given: Any) -> tuple[Any, Providers]:
        providers = Providers(specs, given.pop("store", store), **given)

        async def whole() -> Any:
            try:
                return await function(providers)
            finally:
                await providers.close(drain=5)

        return asyncio.run(whole()), providers

    return run
