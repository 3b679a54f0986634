"""What methods are handed for the outside world: small protocols, so that a test or a user can hand in their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Reply:
    """One answer of a model."""

    text: str
    model: str = ""
    finish: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    """US dollars by the price table; 0 for a cached reply and where no price is known."""
    cached: bool = False
    seconds: float = 0.0
    logprobs: Any = None


class Ask(Protocol):
    """`await ask(messages, temperature=0.7, max_tokens=256, sample=2) -> Reply`.

    `sample` numbers repeated draws of the same request; it is part of the request's identity, so that draw 3 is stored
    and never bought again.
    """

    async def __call__(self, messages: Sequence[Mapping[str, Any]], *, sample: int = 0, **sampling: Any) -> Reply: ...
