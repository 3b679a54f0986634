"""Judge: which of two responses is better by the way they were made."""

from __future__ import annotations

from collections.abc import Mapping

from prefdata.core.method import method
from prefdata.core.rows import Abstained, Pair, Response, Verdict

CHILD = {"revised": True, "revision": True, "worsened": False, "injected": False}
"""Roles of responses that were made from another one -> whether they are better than it."""
BESIDE = {"strong": "weak", "match": "mismatch", "satisfies": "violates", "short": "long"}
"""Roles under one prompt of which the first is the better one."""


@method(version=1, subject="pair")
def by_construction(pair: Pair, *, also: dict[str, str] | None = None) -> Verdict | Abstained:
    """What the strategy meant: no model looks at the texts, and the label says so; abstains where the roles do not tell.

    Better is a revision than what it was made from (revised, revision), and what something was made from than a spoilt version
    of it (worsened, injected); strong than weak, match than mismatch, satisfies than violates, short than long. Such labels
    hold as often as the strategy keeps its promise: compare them with a judge or people on a sample.

    Args:
        also: further roles, better one -> worse one, for strategies of your own.
    """
    tables = {**BESIDE, **(also or {})}
    if pair.a.text == pair.b.text:
        return Abstained("both responses are the same text")
    a_wins, b_wins = _better(pair.a, pair.b, tables), _better(pair.b, pair.a, tables)
    if bool(a_wins) == bool(b_wins):
        return Abstained(f"the roles {pair.a.role or 'none'!r} and {pair.b.role or 'none'!r} do not say which one is better")
    scores = {"roles": {"a": pair.a.role, "b": pair.b.role}}
    return Verdict("a" if a_wins else "b", scores=scores, rationale=f"by construction: {a_wins or b_wins}")


def _better(one: Response, other: Response, tables: Mapping[str, str]) -> str:
    """Why `one` is better than `other`; empty where nothing says so."""
    if CHILD.get(one.role) and other.id in one.parents:
        return f"{one.role} over {other.role or 'a response'} that it was made from"
    if CHILD.get(other.role) is False and one.id in other.parents:
        return f"{one.role or 'a response'} over {other.role} that was made from it"
    if one.role in tables and tables[one.role] == other.role:
        return f"{one.role} over {other.role}"
    return ""
