"""The pace at which an endpoint is asked: how many calls at once, how many calls and tokens per minute.

The number at once doubles while it is used up and answers stay quick and good, grows slowly after the first setback,
and shrinks where a large share of the answers are 429, 5xx or timeouts. A share, not a single one: some servers fail
at random, and giving way to each failure would bring a run to a halt. Calls that are repeated go before first attempts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

FIRST = 32
"""At once at the beginning, or half of the most allowed where that is more."""
MANY_FAIL, FEW_FAIL = 0.3, 0.2
SHRINK, GROW = 0.7, 1.05
SLOW = 2.0
"""No growth where answers take this many times as long as at their quickest."""
_WINDOW = 10


@dataclass
class _Window:
    """The answers since the last decision; one window is about one round trip of all calls."""

    answers: int = 0
    busy: int = 0
    good: int = 0
    seconds: float = 0.0
    most: int = 0
    hold: float = 0.0


class _Bucket:
    """So many units a minute, evenly: starting is allowed while the level is not below zero."""

    def __init__(self, per_minute: float) -> None:
        self.rate = per_minute / 60
        self.level, self.at = 0.0, 0.0

    def wait(self, now: float) -> float:
        """Seconds until a start is allowed."""
        self.level, self.at = min(0.0, self.level + (now - self.at) * self.rate), now
        return -self.level / self.rate

    def take(self, units: float) -> None:
        self.level -= units


class Pace:
    """Lets calls through to one endpoint.

    Args:
        most: calls at once, at most.
        rpm: calls a minute, or None.
        tpm: tokens a minute, or None.
    """

    def __init__(self, most: int, rpm: float | None = None, tpm: float | None = None) -> None:
        self.most = most
        self.limit = float(min(most, max(FIRST, most // 2)))
        self.flying = 0
        self._first: deque[tuple[asyncio.Future[None], int]] = deque()
        self._again: deque[tuple[asyncio.Future[None], int]] = deque()
        self._calls = _Bucket(rpm) if rpm else None
        self._tokens = _Bucket(tpm) if tpm else None
        self._held = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._window = _Window()
        self._quickest = float("inf")
        self._doubling = True

    def tighten(self, most: int, rpm: float | None, tpm: float | None) -> None:
        """A second model behind the same endpoint: the stricter of both limits holds."""
        self.most = min(self.most, most)
        self.limit = min(self.limit, float(self.most))
        if rpm and (self._calls is None or rpm / 60 < self._calls.rate):
            self._calls = _Bucket(rpm)
        if tpm and (self._tokens is None or tpm / 60 < self._tokens.rate):
            self._tokens = _Bucket(tpm)

    async def enter(self, *, again: bool = False, tokens: int = 0) -> None:
        """Wait for leave to send; `tokens` is the expected use."""
        if not self._first and not self._again and self._open():
            self._start(tokens)
            return
        future = asyncio.get_running_loop().create_future()
        (self._again if again else self._first).append((future, tokens))
        self._pump()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.flying -= 1
                self._pump()
            raise

    def leave(self, seconds: float, *, good: bool = False, busy: bool = False, after: float = 0.0, tokens: int = 0) -> None:
        """An attempt has ended.

        Args:
            seconds: how long it took.
            good: it gave a reply.
            busy: it failed in a way that speaks of load.
            after: seconds that the server asked to wait.
            tokens: used beyond what was expected when it entered; negative where it used less.
        """
        self.flying -= 1
        if self._tokens:
            self._tokens.take(tokens)
        if good or busy:
            window = self._window
            window.answers += 1
            window.busy += busy
            window.hold = max(window.hold, after)
            if good:
                window.good += 1
                window.seconds += seconds
            if window.answers >= max(_WINDOW, int(self.limit)):
                self._decide()
        self._pump()

    def _decide(self) -> None:
        window, self._window = self._window, _Window(most=self.flying)
        share = window.busy / window.answers
        if share > MANY_FAIL:
            self.limit = max(1.0, self.limit * SHRINK)
            self._doubling = False
            self._held = max(self._held, _now() + window.hold)
            return
        mean = window.seconds / window.good if window.good else float("inf")
        self._quickest = min(self._quickest * 1.01, mean)
        if share <= FEW_FAIL and window.most >= 0.8 * int(self.limit) and mean <= SLOW * self._quickest:
            self.limit = min(float(self.most), self.limit * 2 if self._doubling else max(self.limit + 1, self.limit * GROW))

    def _open(self) -> bool:
        return self.flying < int(self.limit) and self._wait() <= 0

    def _wait(self) -> float:
        now = _now()
        wait = self._held - now
        for bucket in (self._calls, self._tokens):
            if bucket:
                wait = max(wait, bucket.wait(now))
        return wait

    def _start(self, tokens: int) -> None:
        self.flying += 1
        self._window.most = max(self._window.most, self.flying)
        if self._calls:
            self._calls.take(1)
        if self._tokens:
            self._tokens.take(tokens)

    def _pump(self) -> None:
        """Let through whoever may go; where only time is missing, come back then."""
        while self._again or self._first:
            queue = self._again or self._first
            if queue[0][0].done():
                queue.popleft()
                continue
            if self.flying >= int(self.limit):
                return
            wait = self._wait()
            if wait > 0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._tick)
                return
            future, tokens = queue.popleft()
            self._start(tokens)
            future.set_result(None)

    def _tick(self) -> None:
        self._timer = None
        self._pump()


def _now() -> float:
    return asyncio.get_running_loop().time()
