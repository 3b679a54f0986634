"""prefdata from Python: run a recipe on a store, models included."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefdata.core import recipe as recipes
from prefdata.core.run import Progress, Report, execute
from prefdata.core.store import Store


def run(
    recipe: str | Path | Mapping[str, Any],
    store: Store | str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    budget: float | None = None,
    plan: bool = False,
    use_cache: bool = True,
    retry_failed: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Report:
    """Run a recipe (a file, or the mapping that stands in one); running again computes only what is missing.

    Args:
        recipe: path of a YAML file, or its content as a mapping.
        store: a Store, the path of one, or None for the default.
        overrides: `key=value` strings such as `strategy.sample_n.n=8`.
        budget: US dollars that paid calls must not exceed.
        plan: count rows, calls and cost; compute nothing.
        use_cache: whether stored replies answer for the models.
        retry_failed: try failed rows once more.

    Raises:
        PrefdataError: what the user can mend, as one sentence.
    """
    if isinstance(recipe, Mapping):
        loaded = recipes.parse(recipes.override(recipe, overrides))
    else:
        loaded = recipes.load(recipe, overrides)
    target = store if isinstance(store, Store) else Store(store)
    providers = None
    if loaded.models:
        from prefdata.models.providers import Providers

        providers = Providers(loaded.models, target, budget=budget, use_cache=use_cache)
    options: dict[str, Any] = {"progress": progress, "plan": plan, "retry_failed": retry_failed, "command": command}
    if not _inside_a_loop():
        return execute(target, loaded, providers, **options)
    # Inside a notebook a loop is running already: the run gets a thread, and a loop, of its own.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(execute, target, loaded, providers, **options).result()


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
