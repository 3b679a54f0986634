"""Asking one model: cache, one flight per request, pace, retries, budget. What happens on the wire is the backend's part."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from prefdata.core.errors import Stopped
from prefdata.models.cache import Cache
from prefdata.models.ledger import Ledger
from prefdata.models.pace import Pace
from prefdata.models.protocol import CallFailed, Reply, Transient
from prefdata.models.request import Request, build
from prefdata.models.spec import Spec, check_sampling

log = logging.getLogger("prefdata.models")
RETRIES = 8
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0
"""Seconds before the first retry (doubled from one to the next) and before the last ones; half of it is jitter."""
UNLIMITED_TOKENS = 4_096
"""Reserved for an answer where neither recipe nor method sets max_tokens."""
RESERVED_SHARE = 4
"""Bytes to a token, where the expected use is estimated."""


class Backend(Protocol):
    """Whatever answers requests: one attempt each."""

    async def send(self, request: Request) -> Reply:
        """Answer; raises Transient where another attempt may help, CallFailed where not, Stopped where no request can succeed."""
        ...

    async def close(self) -> None: ...


@dataclass
class Counts:
    """What one model did in this run."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Flight:
    """A request on its way, and how many wait for it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.task: asyncio.Task[Reply]
        self.waiting = 0
        self.sent = False


class Client:
    """An `Ask` for one model of a recipe.

    Args:
        spec: what the recipe says about it.
        identity: what tells it from other models.
        backend: what answers.
        cache: where replies are kept.
        ledger: the money of the run.
        pace: limits of the endpoint; None for backends that pace themselves.
    """

    def __init__(
        self, spec: Spec, identity: Mapping[str, Any], backend: Backend, cache: Cache, ledger: Ledger, pace: Pace | None = None
    ) -> None:
        self.spec, self.pace, self.counts = spec, pace, Counts()
        self._identity = {k: v for k, v in identity.items() if k != "sampling"}
        self._backend, self._cache, self._ledger = backend, cache, ledger
        self._retries = int(spec.options.get("retries", RETRIES))
        self._flights: dict[str, Flight] = {}
        self._finishing = False
        self._mean_out = 0.0

    async def __call__(self, messages: Sequence[Mapping[str, Any]], *, sample: int = 0, **sampling: Any) -> Reply:
        """The stored reply to this request, or a new one; asked once however many ask for it at the same time."""
        request = build(self._identity, messages, self._sampling(sampling, sample), sample)
        flight = self._flights.get(request.id)
        first = flight is None
        if flight is None:
            flight = self._launch(request)
        flight.waiting += 1
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.sent:
                self._give_up(flight)
        if first and not reply.cached:
            return reply
        self.counts.cached += 1
        return replace(reply, cached=True, cost=0.0)

    async def finish(self, seconds: float) -> None:
        """Wait for what is on the wire, and give up the rest."""
        self._finishing = True
        for flight in list(self._flights.values()):
            if not flight.sent:
                self._give_up(flight)
        tasks = [flight.task for flight in self._flights.values()]
        if tasks:
            log.info("waiting for %d calls to %s that are on their way", len(tasks), self.spec.name)
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _sampling(self, given: Mapping[str, Any], sample: int) -> dict[str, Any]:
        merged = {**self.spec.sampling, **check_sampling(given, f"model {self.spec.name!r}")} if given else dict(self.spec.sampling)
        if sample and isinstance(merged.get("seed"), int):
            merged["seed"] += sample
        return merged

    def _launch(self, request: Request) -> Flight:
        flight = self._flights[request.id] = Flight(request)
        flight.task = asyncio.create_task(self._answer(flight))

        def landed(task: asyncio.Task[Reply]) -> None:
            if self._flights.get(request.id) is flight:
                del self._flights[request.id]
            if not task.cancelled():
                task.exception()  # whoever waited has it; where nobody did, nothing is to be said

        flight.task.add_done_callback(landed)
        return flight

    def _give_up(self, flight: Flight) -> None:
        flight.task.cancel()
        if self._flights.get(flight.request.id) is flight:
            del self._flights[flight.request.id]

    async def _answer(self, flight: Flight) -> Reply:
        stored = await self._cache.get(flight.request.id)
        if stored is not None:
            return stored
        attempt = 0
        while True:
            try:
                return await self._attempt(flight, again=attempt > 0)
            except Transient as error:
                log.debug("attempt %d at %s failed: %s", attempt + 1, self.spec.name, error)
                if attempt >= self._retries or self._finishing:
                    self._lose(attempt + 1, error)
                attempt += 1
                self.counts.retries += 1
                await asyncio.sleep(_wait(attempt, error.after))

    def _lose(self, attempts: int, last: Transient) -> NoReturn:
        self.counts.failed += 1
        if not last.reached:
            raise Stopped(
                f"stopped, since model {self.spec.name!r} cannot be reached: {last}; start the server or correct base_url, "
                "then run the same command again."
            ) from None
        raise CallFailed(f"gave up after {attempts} attempts, the last of which failed with: {last}") from None

    async def _attempt(self, flight: Flight, *, again: bool) -> Reply:
        """One attempt inside its place in the pace and its share of the budget; its reply is kept before it is returned."""
        request = flight.request
        expected, most = self._expected_tokens(request), self._most(request)
        if self.pace:
            await self.pace.enter(again=again, tokens=expected)
        clock = asyncio.get_running_loop().time
        started, used = clock(), 0
        reply: Reply | None = None
        failure: Transient | None = None
        try:
            await self._ledger.reserve(most, self.spec.name)
            cost = unsure = 0.0
            try:
                flight.sent, started = True, clock()
                reply = await self._backend.send(request)
                reply = self._priced(request, reply, clock() - started)
                used, cost = reply.tokens_in + reply.tokens_out, reply.cost
                self._cache.put(request, self.spec.model, reply)
            except Transient as error:
                failure, unsure = error, most if error.charged else 0.0
                raise
            except CallFailed:
                self.counts.failed += 1
                raise
            except asyncio.CancelledError:
                unsure = most
                raise
            finally:
                flight.sent = False
                self._ledger.settle(most, cost, unsure)
        finally:
            if self.pace:
                self.pace.leave(
                    clock() - started, good=reply is not None, busy=failure is not None and failure.busy,
                    after=(failure.after if failure else None) or 0.0, tokens=used - expected,
                )  # fmt: skip
        self._book(reply)
        return reply

    def _priced(self, request: Request, reply: Reply, seconds: float) -> Reply:
        """With cost and duration; where a paid server counts no tokens, four bytes are taken for one."""
        tokens_in, tokens_out = reply.tokens_in, reply.tokens_out
        price = self.spec.price
        if price is None or (not price.input and not price.output):
            return replace(reply, seconds=seconds)
        if not tokens_in and not tokens_out:
            tokens_in = request.most_tokens_in() // RESERVED_SHARE
            tokens_out = len(reply.text.encode(errors="replace")) // RESERVED_SHARE + 1
        return replace(reply, seconds=seconds, tokens_in=tokens_in, tokens_out=tokens_out, cost=price.cost(tokens_in, tokens_out))

    def _book(self, reply: Reply) -> None:
        self.counts.calls += 1
        self.counts.tokens_in += reply.tokens_in
        self.counts.tokens_out += reply.tokens_out
        self._mean_out += (reply.tokens_out - self._mean_out) / min(self.counts.calls, 100)

    def _most(self, request: Request) -> float:
        """The most this request can cost; 0 where nobody asks."""
        if self._ledger.budget is None or self.spec.price is None:
            return 0.0
        limit = request.sampling.get("max_completion_tokens") or request.sampling.get("max_tokens")
        return self.spec.price.cost(request.most_tokens_in(), int(limit or max(UNLIMITED_TOKENS, 4 * self._mean_out)))

    def _expected_tokens(self, request: Request) -> int:
        if not self.spec.options.get("tpm"):
            return 0
        limit = request.sampling.get("max_completion_tokens") or request.sampling.get("max_tokens") or 512
        return request.most_tokens_in() // RESERVED_SHARE + int(self._mean_out or limit)


def _wait(attempt: int, after: float | None) -> float:
    """Seconds before a retry: exponential with jitter, and not before the server allows it."""
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1))
    return max(after or 0.0, longest * random.uniform(0.5, 1.0))
