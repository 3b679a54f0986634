"""The durable cache: what was answered once is never asked again, in this run, after kill -9, or next month.

A reply goes to the journal the moment it arrives, before its caller sees it; groups of replies are taken into the
store a few times a second by one thread, so that the event loop never waits for the store's lock. What the store holds
is known by 64 bits per call, kept in memory: an unanswered request costs no look at the store, and replies that are
there are read in batches.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from heapq import merge
from typing import TypeVar

from prefdata.core import calls
from prefdata.core.errors import Busy, PrefdataError, Stopped, StoreError
from prefdata.core.store import Store
from prefdata.models.journal import Journal, Segment
from prefdata.models.protocol import Reply
from prefdata.models.request import Request

log = logging.getLogger("prefdata.models")
T = TypeVar("T")
INTERVAL = 0.25
"""Seconds between two commits; more where commits take long."""
_SHARE = 4
"""A commit that took t seconds is followed by a rest of at least this many t."""
_MOST_LOOKED_UP = 500
_STORED = {"text", "model", "finish", "logprobs", "reasoning", "tool_calls"} & {f.name for f in fields(Reply)}


class Known:
    """A set of 64-bit numbers: a sorted array for the many, a small set for the new ones."""

    def __init__(self, numbers: array[int]) -> None:
        self._old, self._new = numbers, set[int]()

    def __contains__(self, number: int) -> bool:
        if number in self._new:
            return True
        at = bisect_left(self._old, number)
        return at < len(self._old) and self._old[at] == number

    def add(self, numbers: Iterable[int]) -> None:
        self._new.update(numbers)
        if len(self._new) > 50_000 + len(self._old) // 8:
            self._old, self._new = array("Q", merge(self._old, sorted(self._new))), set()


@dataclass
class _Batch:
    """A sealed file of the journal and the replies in it."""

    segment: Segment
    replies: dict[str, Reply] = field(default_factory=dict)
    tried: bool = False


class Cache:
    """The cache of one run over the table `calls` of its store.

    Args:
        store: where replies are kept.
        use: whether stored replies are read; False asks anew (once per run) and keeps both answers.
        interval: seconds between commits.
    """

    def __init__(self, store: Store, *, use: bool = True, interval: float = INTERVAL) -> None:
        self._store, self._use, self._interval = store, use, interval
        self._journal = Journal(store.path)
        self._thread = ThreadPoolExecutor(1, "prefdata-calls")
        self._opening: asyncio.Task[None] | None = None
        self._known, self._rows = Known(array("Q")), 0
        self._recent: dict[str, Reply] = {}
        self._unstored: list[_Batch] = []
        self._wanted: dict[str, asyncio.Future[Reply | None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._failure: PrefdataError | None = None

    async def open(self) -> None:
        """Take in what killed processes left, and learn what the store holds."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._in_thread(self._load))
        await asyncio.shield(self._opening)

    async def get(self, identity: str) -> Reply | None:
        """The reply that is kept for a request, or None."""
        recent = self._recent.get(identity)
        if recent is not None:
            return recent
        try:
            if self._opening is None or not self._opening.done():
                await self.open()
            if self._failure:
                raise self._failure
            if calls.prefix(identity) not in self._known:
                return None
            return await asyncio.shield(self._look_up(identity))
        except PrefdataError as error:
            raise Stopped(f"stopped, since replies can neither be read nor stored: {error}") from error

    def holds(self, identity: str) -> bool:
        """Whether there is a reply, as far as is known without a look at the store."""
        return identity in self._recent or calls.prefix(identity) in self._known

    def put(self, request: Request, model: str, reply: Reply) -> None:
        """Keep a reply: on disk when this returns, in the store within moments."""
        content = {name: value for name in sorted(_STORED) if (value := getattr(reply, name)) is not None}
        head = json.dumps({
            "id": request.id, "model": model, "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out, "cost": reply.cost,
            "seconds": round(reply.seconds, 4), "created": datetime.now(UTC).replace(tzinfo=None).isoformat(), "reply": content,
        })  # fmt: skip
        try:
            self._journal.append(f'{head[:-1]}, "request": {request.stored()}}}\n'.encode(errors="replace"))
        except PrefdataError as error:
            self._failure = error
            raise Stopped(str(error)) from error
        self._recent[request.id] = reply
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Store what waits; what cannot be stored stays in the journal, and the error says so."""
        if self._opening is not None:
            with suppress(PrefdataError):
                await self.open()
        self._closing.set()
        if self._writer is not None:
            await self._writer
        try:
            if self._unstored or not self._journal.empty:
                await self._commit()
        finally:
            for batch in self._unstored:
                batch.segment.leave()
            self._thread.shutdown(wait=True)

    def _look_up(self, identity: str) -> asyncio.Future[Reply | None]:
        future = self._wanted.get(identity)
        if future is None:
            future = self._wanted[identity] = asyncio.get_running_loop().create_future()
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read())
        return future

    async def _read(self) -> None:
        """Look up all that is wanted, batch after batch, until nothing is."""
        await asyncio.sleep(0)
        while self._wanted:
            batch = dict(list(self._wanted.items())[:_MOST_LOOKED_UP])
            try:
                found = await self._in_thread(self._fetch, list(batch))
                for identity, future in batch.items():
                    future.set_result(found.get(identity))
            except Exception as error:  # whoever waits for a reply gets the error
                for future in batch.values():
                    if not future.done():
                        future.set_exception(error)
            for identity in batch:
                del self._wanted[identity]

    async def _write(self) -> None:
        """Commit from time to time while there is something to commit."""
        rest = self._interval
        while not self._closing.is_set() and (self._unstored or not self._journal.empty):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), rest)
                return
            started = time.monotonic()
            try:
                await self._commit()
            except Busy as error:
                log.warning("replies wait in the journal: %s", error)
            except Exception as error:  # whatever it is: nothing more is bought that cannot be kept
                self._failure = error if isinstance(error, PrefdataError) else StoreError(f"replies cannot be stored: {error}.")
                return
            rest = max(self._interval, _SHARE * (time.monotonic() - started))

    async def _commit(self) -> None:
        segment = self._journal.seal()
        if segment:
            done = {identity for batch in self._unstored for identity in batch.replies}
            self._unstored.append(_Batch(segment, {k: v for k, v in self._recent.items() if k not in done}))
        for batch in list(self._unstored):
            added = await self._in_thread(self._take_in, batch)
            self._unstored.remove(batch)
            self._known.add(added if self._use else (calls.prefix(identity) for identity in batch.replies))
            for identity, reply in batch.replies.items():
                if self._recent.get(identity) is reply:
                    del self._recent[identity]

    def _load(self) -> None:
        numbers, self._rows = calls.prefixes(self._store)
        if self._use:
            self._known = Known(numbers)
        for segment in self._journal.orphans():
            if segment.size:
                stored, added, self._rows = calls.take_in(self._store, segment.path, self._rows, maybe_known=True)
                log.info("%d replies of a run that was killed are stored now", stored)
                if self._use:
                    self._known.add(added)
            segment.remove()

    def _take_in(self, batch: _Batch) -> array[int]:
        segment, again, batch.tried = batch.segment, batch.tried, True
        stored, added, self._rows = calls.take_in(self._store, segment.path, self._rows, maybe_known=again)
        if stored != segment.lines and not again:
            log.error("%d of %d replies could not be read back and are not stored", segment.lines - stored, segment.lines)
        segment.remove()
        return added

    def _fetch(self, identities: list[str]) -> dict[str, Reply]:
        found = {}
        for identity, text, tokens_in, tokens_out, seconds in calls.replies(self._store, identities):
            content = {name: value for name, value in json.loads(text).items() if name in _STORED}
            found[identity] = Reply(**content, tokens_in=tokens_in or 0, tokens_out=tokens_out or 0, seconds=seconds or 0.0, cached=True)
        return found

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
