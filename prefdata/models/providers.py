"""The models of a recipe, by name: checked, identified, priced, and handed out to methods."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, cast

from prefdata.core.errors import BadValue, NeedsExtra, PrefdataError, UnknownName
from prefdata.core.protocols import Embed, Policy, Reward, Sandbox
from prefdata.core.store import Store
from prefdata.models import fingerprint, mock, scripted
from prefdata.models.cache import INTERVAL, Cache
from prefdata.models.ledger import Ledger
from prefdata.models.llm import Backend, Client
from prefdata.models.pace import Pace
from prefdata.models.protocol import Ask
from prefdata.models.sandbox import LocalSandbox, refuse_unless_enabled
from prefdata.models.spec import SCRIPTED, USES, Spec, read

DRAIN = 30.0
"""Seconds that calls on their way are waited for when a run is stopped."""
_BATCH = 20_000
"""Rows in flight where calls are collected into files."""
_SCORED = 256
"""Rows in flight where a local model scores texts: enough to fill batches of like lengths."""
_SCRIPTS = {"replies": "ask", **SCRIPTED}


class Providers:
    """Hands out models; one for each run.

    Args:
        specs: the recipe's `models`.
        store: where replies are kept.
        budget: US dollars this run may spend, or None.
        use_cache: whether stored replies are used; False asks anew.
        interval: seconds between two commits of replies.
    """

    def __init__(
        self,
        specs: Mapping[str, Mapping[str, Any]],
        store: Store,
        *,
        budget: float | None = None,
        use_cache: bool = True,
        interval: float = INTERVAL,
    ) -> None:
        if budget is not None and not 0 <= budget < float("inf"):
            raise BadValue("budget", budget, "US dollars from 0")
        self._specs = {name: read(name, given) for name, given in specs.items()}
        self._store = store
        self._ledger = Ledger(budget)
        self._cache = Cache(store, use=use_cache, interval=interval)
        self._clients: dict[str, Client] = {}
        self._backends: list[Backend] = []
        self._locals: dict[tuple[str, str], Any] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._identities: dict[str, dict[str, Any]] = {}

    def check(self, name: str, use: str) -> None:
        """Refuse an unknown model, one that cannot serve this use, a missing key, and a budget without a price."""
        spec = self._spec(name)
        if use not in USES[spec.kind]:
            fitting = ", ".join(kind for kind, uses in USES.items() if use in uses) or "none"
            raise PrefdataError(f"model {name!r} is of kind {spec.kind!r}, which cannot be used as {use!r}; kinds that can: {fitting}.")
        if spec.kind == "openai":
            spec.key()
        if spec.kind == "mock" and not any(made == use and script in spec.options for script, made in _SCRIPTS.items()):
            needed = next(script for script, made in _SCRIPTS.items() if made == use)
            raise PrefdataError(f"model {name!r} of kind 'mock' has no script for {use!r}; give it  {needed}: ...")
        if spec.kind == "sandbox":
            refuse_unless_enabled(spec)
        if self._ledger.budget is not None and use == "ask" and spec.price is None:
            raise PrefdataError(
                f"the price of model {name!r} ({spec.model}) is not known, so a budget cannot be kept; give it as  "
                f"models.{name}.price: {{input: ..., output: ...}}  in US dollars per million tokens (0 for a server of your own)."
            )
        self.identity(name)

    def identity(self, name: str) -> dict[str, Any]:
        """Everything about the model that changes its answers, and nothing else."""
        if name not in self._identities:
            spec = self._spec(name)
            found: dict[str, Any] = {"kind": spec.kind, "sampling": dict(spec.sampling)}
            if spec.kind == "transformers":
                found["files"] = fingerprint.fingerprint(fingerprint.locate(spec.model, spec.revision))
                found["dtype"] = str(spec.options.get("dtype", "float32"))
                found |= {name: spec.options[name] for name in ("max_length", "truncation") if name in spec.options}
            elif spec.kind == "sandbox":
                found["python"] = ".".join(map(str, sys.version_info[:2]))
            else:
                found["model"] = spec.model
                if spec.revision:
                    found["revision"] = spec.revision
            if spec.kind == "mock" and "replies" in spec.options:
                found["script"] = mock.fingerprint(spec)
            if spec.kind == "mock" and (scripts := scripted.fingerprint(spec)):
                found["scripts"] = scripts
            self._identities[name] = found
        return self._identities[name]

    def ask(self, name: str) -> Ask:
        """The model as an async callable."""
        if name not in self._clients:
            spec = self._spec(name)
            backend = self._backend(spec)
            self._backends.append(backend)
            pace = self._pace(spec) if spec.kind == "openai" and spec.options.get("mode") != "batch" else None
            self._clients[name] = Client(spec, self.identity(name), backend, self._cache, self._ledger, pace)
        return self._clients[name]

    def policy(self, name: str) -> Policy:
        """The model as a scorer of texts."""
        return cast(Policy, self._local(name, "policy"))

    def reward(self, name: str) -> Reward:
        """The model as a reward model."""
        return cast(Reward, self._local(name, "reward"))

    def embed(self, name: str) -> Embed:
        """The model as a text encoder."""
        return cast(Embed, self._local(name, "embed"))

    def sandbox(self, name: str) -> Sandbox:
        """A place to run programs; refused where the recipe has not switched it on."""
        return cast(Sandbox, self._local(name, "sandbox"))

    def estimate(self, name: str, tokens_in: int, tokens_out: int) -> float | None:
        """US dollars that a call of this size costs; None where the price is not known."""
        price = self._spec(name).price
        return price.cost(tokens_in, tokens_out) if price else None

    def concurrency(self, name: str) -> int:
        """How many rows to keep in flight."""
        spec = self._spec(name)
        if spec.kind == "sandbox":
            return 2 * int(spec.options.get("max_concurrency") or os.cpu_count() or 1)
        if spec.kind == "transformers":
            return 2 * int(spec.options.get("batch_size", 16)) if name in self._clients else _SCORED
        return _BATCH if spec.options.get("mode") == "batch" else spec.max_concurrency

    async def close(self, drain: float = DRAIN) -> None:
        """Wait for what is on its way, store what waits to be stored, and let go of connections."""
        try:
            for client in self._clients.values():
                await client.finish(0 if client.spec.options.get("mode") == "batch" else drain)
            for backend in self._backends:
                await backend.close()
            for local in self._locals.values():
                await local.close()
        finally:
            await self._cache.close()

    @property
    def spent(self) -> float:
        """US dollars by the price table."""
        return self._ledger.spent

    @property
    def calls(self) -> int:
        """Replies that were asked for in this run."""
        return sum(c.counts.calls for c in self._clients.values())

    @property
    def cached(self) -> int:
        """Replies that were there, or on their way for somebody else."""
        return sum(c.counts.cached for c in self._clients.values())

    @property
    def failed(self) -> int:
        """Requests that failed for good."""
        return sum(c.counts.failed for c in self._clients.values())

    @property
    def retries(self) -> int:
        """Attempts beyond the first."""
        return sum(c.counts.retries for c in self._clients.values())

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens in and out of this run's calls."""
        return sum(c.counts.tokens_in for c in self._clients.values()), sum(c.counts.tokens_out for c in self._clients.values())

    def _local(self, name: str, use: str) -> Any:
        """What stands behind a name for a use other than ask; made once."""
        if (name, use) not in self._locals:
            spec = self._spec(name)
            if use not in USES[spec.kind] or use == "ask":
                raise PrefdataError(f"model {name!r} of kind {spec.kind!r} cannot be used as {use!r}.")
            self._locals[name, use] = _made(spec, use)
        return self._locals[name, use]

    def _spec(self, name: str) -> Spec:
        if name not in self._specs:
            raise UnknownName("model", name, self._specs)
        return self._specs[name]

    def _pace(self, spec: Spec) -> Pace:
        """One for each model of an endpoint, however many names a recipe has for it."""
        limits = (spec.max_concurrency, spec.options.get("rpm"), spec.options.get("tpm"))
        pace = self._paces.get((spec.base_url, spec.model))
        if pace is None:
            pace = self._paces[spec.base_url, spec.model] = Pace(*limits)
        else:
            pace.tighten(*limits)
        return pace

    def _backend(self, spec: Spec) -> Backend:
        if spec.kind == "mock":
            return mock.Mock(spec)
        if spec.kind == "openai":
            from prefdata.models.openai import OpenAI

            if spec.options.get("mode") == "batch":
                from prefdata.models.batch import Batches

                return Batches(spec, self._store.path, self._cache.holds)
            return OpenAI(spec)
        try:
            from prefdata.models.local import Local
        except ModuleNotFoundError:
            raise NeedsExtra(f"model {spec.name!r} of kind 'transformers'", "train") from None
        return Local(spec)


def _made(spec: Spec, use: str) -> Any:
    if spec.kind == "mock":
        return {"policy": scripted.ScriptedPolicy, "reward": scripted.ScriptedReward, "embed": scripted.ScriptedEmbed}[use](spec)
    if spec.kind == "sandbox":
        refuse_unless_enabled(spec)
        return LocalSandbox(spec)
    try:
        module = importlib.import_module(f"prefdata.models.{use}")
    except ModuleNotFoundError:
        raise NeedsExtra(f"model {spec.name!r} of kind 'transformers'", "train") from None
    return getattr(module, f"Local{use.title()}")(spec)
