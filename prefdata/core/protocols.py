"""What a method may be handed for the outside world, as it sees it; `prefdata.models` has the real things.

A method says by a parameter's type, left of its star, what it wants: `ask: Ask` is one model, `asks: Mapping[str, Ask]`
several by name, `critic: Ask | None = None` one that a recipe may leave out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

USES: Mapping[str, str] = {"Ask": "ask", "Policy": "policy", "Reward": "reward", "Embed": "embed", "Sandbox": "sandbox"}
"""Type left of a method's star -> what a model must be able to do to be handed in there."""
Messages = Sequence[Mapping[str, Any]]


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
        """The JSON value in the text; raises Unreadable where there is none."""


class Ask(Protocol):
    """`await ask(messages, temperature=0.7, max_tokens=256, sample=2) -> Reply`; `sample` numbers repeated draws."""

    async def __call__(self, messages: Messages, *, sample: int = 0, **sampling: Any) -> Reply: ...


@dataclass(frozen=True)
class Logps:
    """The log-probability of one response given its prompt.

    Attributes:
        total: sum over the response's tokens of natural-log probabilities; the end-of-turn token is one of them where the
            chat template ends turns with one, the prompt's tokens are not.
        tokens: how many tokens were summed.
    """

    total: float
    tokens: int


class Policy(Protocol):
    """A causal language model that scores texts."""

    async def logps(self, messages: Messages, texts: Sequence[str]) -> list[Logps]:
        """One `Logps` per text, as the answer to `messages`; calls of several rows share batches."""
        ...


class Reward(Protocol):
    """A reward model."""

    async def scores(self, messages: Messages, texts: Sequence[str]) -> list[float]:
        """One scalar per text, as the answer to `messages`; higher is better, in the model's own scale."""
        ...


class Embed(Protocol):
    """A text encoder."""

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Array [len(texts), d], float32, each row of Euclidean length 1."""
        ...


@dataclass(frozen=True)
class Ran:
    """How a program in the sandbox ended.

    Attributes:
        state: ok (exit 0), error (any other exit), timeout, memory (killed at its bound), refused (not started).
        exit: the exit code, None where the program did not end by itself.
        seconds: wall-clock time.
    """

    state: Literal["ok", "error", "timeout", "memory", "refused"]
    exit: int | None
    stdout: str
    stderr: str
    seconds: float


class Sandbox(Protocol):
    """Runs untrusted Python in a process of its own."""

    async def run(self, code: str, *, stdin: str = "", seconds: float = 5, memory_mb: int = 512, files: Mapping[str, str] = {}) -> Ran:
        """Run `code`; `files` (name -> text) lie in its working folder.

        Args:
            seconds: wall-clock bound.
            memory_mb: bound of the address space, MiB.
        """
        ...
