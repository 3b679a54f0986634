"""What is handed to a row-wise method beside its row: models, under the method's own names, and the seed."""

from __future__ import annotations

from typing import Any

from prefdata.core.run import Bound, Context


class Counting:
    """An `ask` that books what a row's calls cost."""

    def __init__(self, ask: Any, bill: Bill) -> None:
        self.ask, self.bill = ask, bill

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        reply = await self.ask(*args, **kwargs)
        self.bill.cost += reply.cost
        return reply


class Bill:
    """What one row has cost so far, in US dollars."""

    def __init__(self) -> None:
        self.cost = 0.0


class Hands:
    """The models of one step.

    Args:
        context: of the run.
        bound: the step; every name in `bound.handed` is filled.
    """

    def __init__(self, context: Context, bound: Bound) -> None:
        self.bound, self.seed = bound, context.recipe.seed
        self.models = {
            name: [getattr(context.models, bound.method.models[name].use)(model) for model in names] if context.models else []
            for name, names in bound.handed.items()
        }
        widths = [context.models.concurrency(model) for names in bound.handed.values() for model in names] if context.models else []
        self.width = max(widths, default=1)
        """How many rows to keep in flight: as many as the widest model takes; each model keeps its own pace."""

    def row(self) -> tuple[list[Any], Bill]:
        """What stands left of the star after the row itself, for one row, and the bill of that row."""
        bill = Bill()
        return [self._one(name, bill) for name in self.bound.method.handed[1:]], bill

    def _one(self, name: str, bill: Bill) -> Any:
        if name not in self.bound.method.models:
            return self.seed
        names = self.bound.handed.get(name)
        if names is None:
            return None
        wanted = self.bound.method.models[name]
        given = [Counting(model, bill) if wanted.use == "ask" else model for model in self.models[name]]
        return dict(zip(names, given, strict=True)) if wanted.several else given[0]
