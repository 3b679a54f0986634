"""What methods are handed for the outside world: small protocols, so that a test or a user can hand in their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prefdata.core.errors import PrefdataError, Unreadable
from prefdata.core.jsons import parse_json

__all__ = ["Ask", "CallFailed", "Reply", "Transient", "Unreadable"]


@dataclass(frozen=True)
class Reply:
    """One answer of a model."""

    text: str
    model: str = ""
    finish: str | None = None
    """stop, length, refusal, content_filter, tool_calls: why the text ends."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    """US dollars by the price table; 0 for a cached reply and where no price is known."""
    cached: bool = False
    seconds: float = 0.0
    logprobs: Any = None
    """As the OpenAI API gives them: {"content": [{"token", "logprob", "top_logprobs": [...]}, ...]}."""
    reasoning: str | None = None
    """What a reasoning model said before its answer, where the server shows it."""
    tool_calls: Any = None

    def json(self) -> Any:
        """The JSON value in the text: in a code fence, amid prose, with trailing commas; raises Unreadable."""
        return parse_json(self.text)


class CallFailed(PrefdataError):
    """A model did not answer this request and will not on repetition; the message holds the server's words."""


class Transient(Exception):
    """One attempt failed in a way that the next may not.

    Args:
        words: what the server or the network said.
        busy: a sign of load (429, 5xx, timeout): the pace slows down where there are many.
        after: seconds the server asks to wait.
        charged: the attempt may have been paid for.
        reached: the server was reached.
    """

    def __init__(self, words: str, *, busy: bool = True, after: float | None = None, charged: bool = False, reached: bool = True) -> None:
        super().__init__(words)
        self.busy, self.after, self.charged, self.reached = busy, after, charged, reached


class Ask(Protocol):
    """`await ask(messages, temperature=0.7, max_tokens=256, sample=2) -> Reply`.

    `sample` numbers repeated draws of the same request; it is part of the request's identity, so that draw 3 is stored
    and never bought again. Where `seed` is given, draw k is asked with seed + k.
    """

    async def __call__(self, messages: Sequence[Mapping[str, Any]], *, sample: int = 0, **sampling: Any) -> Reply: ...
