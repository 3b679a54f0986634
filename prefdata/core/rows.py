"""The rows that methods see: small frozen dataclasses. Identities are derived from content (`ids.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from prefdata.core import ids

Message = Mapping[str, Any]
Choice = Literal["a", "b", "tie", "both_bad", "abstain"]
CHOICES: tuple[str, ...] = ("a", "b", "tie", "both_bad", "abstain")


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the point where a response is due."""

    messages: tuple[Message, ...]
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        return ids.prompt_id(self.messages)

    @property
    def text(self) -> str:
        """The text of the last message; content parts are joined."""
        content = self.messages[-1]["content"]
        if isinstance(content, str):
            return content
        return "\n".join(part.get("text", "") for part in content if isinstance(part, Mapping))


@dataclass(frozen=True)
class Response:
    """One candidate for one prompt."""

    prompt: Prompt
    text: str
    model: str = ""
    sample: int = 0
    role: str = ""
    """What this candidate is for its strategy: draft, revised, chosen_by_construction, ..."""
    parents: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    finish: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    @cached_property
    def id(self) -> str:
        return ids.response_id(self.prompt.id, self.text, self.model, self.sample)


@dataclass(frozen=True)
class Pair:
    """Two responses of one prompt, unordered: `a` is the one with the smaller id."""

    prompt: Prompt
    a: Response
    b: Response
    winner: str | None = field(default=None, compare=False)
    """What the newest label says (a, b or tie), for judges whose header needs "winner"; None where there is no label."""

    @cached_property
    def id(self) -> str:
        return ids.pair_id(self.a.id, self.b.id)


@dataclass(frozen=True)
class Group:
    """A prompt with its responses in store order, for judges that see all of them at once."""

    prompt: Prompt
    responses: tuple[Response, ...]

    @property
    def id(self) -> str:
        return self.prompt.id


@dataclass(frozen=True)
class Verdict:
    """A judge's answer on a pair."""

    choice: Choice
    strength: float | None = None
    """How much better a is than b, in [-1, 1]; negative where b is better."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    rationale: str | None = None
    shown: str = "ab"
    """The order in which the two were shown: ab, ba, or both (asked twice; see `verdicts.both`)."""
    raw: str | None = None
    annotator: str = ""
    """A juror's name, where a method speaks for several; "" for the method itself."""


@dataclass(frozen=True)
class Score:
    """A judge's answer on one response, higher is better, in the judge's own scale."""

    value: float
    scores: Mapping[str, Any] = field(default_factory=dict)
    rationale: str | None = None
    raw: str | None = None
    annotator: str = ""
    """A juror's name, where a method speaks for several; "" for the method itself."""


@dataclass(frozen=True)
class Judged:
    """What a judge of a group says about one response or two of them; `given` is in terms of the first (a) and second (b)."""

    of: Response | tuple[Response, Response]
    given: Verdict | Score


@dataclass(frozen=True)
class Abstained:
    """The method looked and has nothing to say about this row; `note` says why."""

    note: str


@dataclass(frozen=True)
class Reject:
    """A source row that was refused."""

    file: str
    line: int
    field: str
    reason: str
    row: str = ""
    """The start of the row as it stood in the file."""


@dataclass(frozen=True)
class Sql:
    """Columns computed inside DuckDB: name -> one SQL expression over the columns a method may read.

    The escape hatch for methods whose whole work is arithmetic on narrow columns: no row leaves the store. Only
    expressions (window functions included): the kernel writes the statement around them and refuses anything else.
    """

    columns: Mapping[str, str]


def as_messages(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    """A plain string becomes one user message."""
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
