"""One thread per local model that computes: what many callers ask for at the same time goes through it together."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from prefdata.core.errors import PrefdataError
from prefdata.models.protocol import CallFailed

GATHER = 0.004
"""Seconds to wait for company after the first item of a round."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]
    loop: asyncio.AbstractEventLoop

    def settle(self, result: Result | Exception) -> None:
        """Hand over, from the model's thread to the caller's loop."""

        def hand_over() -> None:
            if self.future.done():
                return
            if isinstance(result, Exception):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(hand_over)


class Gathered(Generic[Item, Result]):
    """`await gathered(item)`: items that wait together are computed in one call.

    Args:
        name: of the model, for the thread.
        compute: items -> (number of an item, its result or why there is none), in any order; an item it leaves out, or
            an exception that it raises, fails that item or all of those left.
    """

    def __init__(self, name: str, compute: Callable[[Sequence[Item]], Iterator[tuple[int, Result | Exception]]]) -> None:
        self._name, self._compute = name, compute
        self._queue: queue.Queue[_Waiting[Item, Result] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.rounds: list[int] = []
        """How many items each round had."""

    async def __call__(self, item: Item) -> Result:
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, Result] = _Waiting(item, loop.create_future(), loop)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"model-{self._name}", daemon=True)
            self._thread.start()
        self._queue.put(waiting)
        return await waiting.future

    async def close(self) -> None:
        """End the thread; a round that still runs ends after its present batch."""
        self._closing.set()
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            time.sleep(GATHER)
            everybody = [first]
            while not self._queue.empty():
                another = self._queue.get()
                if another is None:
                    return
                everybody.append(another)
            together = [one for one in everybody if not one.future.done()]
            if together:
                self.rounds.append(len(together))
                self._round(together)

    def _round(self, together: list[_Waiting[Item, Result]]) -> None:
        left = set(range(len(together)))
        failure: Exception = CallFailed("the model gave no result")
        try:
            for number, result in self._compute([one.item for one in together]):
                left.discard(number)
                together[number].settle(result)
                if self._closing.is_set():
                    return
        except Exception as error:  # out of memory, a model that fails or cannot be loaded: these items
            failure = error if isinstance(error, PrefdataError) else failed(error)
        for number in left:
            together[number].settle(failure)


def failed(error: Exception) -> CallFailed:
    """What a library raised, as the failure of one row."""
    return CallFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
