"""What a method may be handed for the outside world, as it sees it; `prefdata.models` has the real things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Reply(Protocol):
    """One answer of a model."""

    @property
    def text(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def finish(self) -> str | None: ...
    @property
    def tokens_in(self) -> int: ...
    @property
    def tokens_out(self) -> int: ...
    @property
    def cost(self) -> float: ...
    @property
    def logprobs(self) -> Any: ...
    def json(self) -> Any:
        """The JSON value in the text; raises where there is none."""


class Ask(Protocol):
    """`await ask(messages, temperature=0.7, max_tokens=256, sample=2) -> Reply`; `sample` numbers repeated draws."""

    async def __call__(self, messages: Sequence[Mapping[str, Any]], *, sample: int = 0, **sampling: Any) -> Reply: ...
