"""Money: what was spent, what is on its way, and a stop before a budget is exceeded."""

from __future__ import annotations

import asyncio
from collections import deque

from prefdata.core.errors import Stopped


class Ledger:
    """The account of one run over all its models, in US dollars.

    Every call reserves the most it can cost before it is sent, and settles for what it did cost. A call that does not
    fit waits for others to settle; where nothing is on its way and it still does not fit, the run stops.

    Attributes:
        spent: cost of all replies by the price table.
        unsure: the most that attempts without a readable reply (timeouts, cut answers) may have cost on top.
    """

    def __init__(self, budget: float | None = None) -> None:
        self.budget = budget
        self.spent = self.unsure = 0.0
        self._reserved: list[float] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def reserve(self, amount: float, who: str) -> None:
        """Set `amount` aside, or raise Stopped where the budget cannot bear it."""
        while self.budget is not None and amount > 0 and not self._fits(amount):
            if not self._reserved:
                self._wake()
                raise Stopped(
                    f"stopped before the budget of ${self.budget:.2f} is exceeded: ${self.spent + self.unsure:.4f} is spent, and the next "
                    f"call to {who!r} may cost up to ${amount:.4f}; everything finished is stored, so run the same command with a higher "
                    "--budget to go on (or lower max_tokens)."
                )
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        if amount > 0:
            self._reserved.append(amount)

    def settle(self, amount: float, cost: float = 0.0, unsure: float = 0.0) -> None:
        """Give back what was set aside and book what it came to."""
        if amount > 0:
            self._reserved.remove(amount)
        self.spent += cost
        self.unsure += unsure
        self._wake()

    def _fits(self, amount: float) -> bool:
        return self.budget is None or self.spent + self.unsure + sum(self._reserved) + amount <= self.budget + 1e-12

    def _wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
