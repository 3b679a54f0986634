"""Errors of two families: what the user can mend, and everything else.

A `PrefdataError` is the user's: the CLI prints its one sentence and exits with code 2. It names the value, what is
allowed and the next move. Any other exception is ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 160
"""Characters of an unreadable reply that a message repeats."""


class PrefdataError(Exception):
    """Something the user can mend; the message is one sentence for a person."""


class UnknownName(PrefdataError):
    """A name that is not among the known ones; the nearest is offered."""

    def __init__(self, what: str, got: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(known)
        near = nearest(got, known)
        guess = f" Did you mean {near!r}?" if near else ""
        allowed = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
        super().__init__(f"unknown {what} {got!r}{where}.{guess} Known: {allowed or 'none'}.")


class BadValue(PrefdataError):
    """A value of the right name and the wrong kind."""

    def __init__(self, what: str, got: object, allowed: str, move: str = "") -> None:
        super().__init__(f"{what} is {got!r}; allowed: {allowed}.{' ' + move if move else ''}")


class Unreadable(PrefdataError):
    """A model replied, and the reply does not hold what was asked for; its row fails, and its cost stays booked.

    Args:
        words: what was looked for in vain, without a full stop.
        raw: the whole reply; its start is shown.
    """

    def __init__(self, words: str, raw: str = "") -> None:
        text = raw.strip()
        start = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
        super().__init__(f"{words}: {start!r}" if raw else words)
        self.words, self.raw = words, raw


class StoreError(PrefdataError):
    """The store cannot be opened, is not ours, or is newer than this version."""


class Busy(PrefdataError):
    """The store stayed locked by another process for longer than the bound."""


class NeedsExtra(PrefdataError):
    """An optional dependency is missing."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed: run  pip install 'prefdata[{extra}]'")


class Stopped(PrefdataError):
    """The run was stopped on purpose (Ctrl-C, budget); everything finished is stored."""


class Interrupted(Stopped):
    """Stopped by Ctrl-C."""


def nearest(got: str, known: Iterable[str]) -> str | None:
    """The known name closest to `got`, or None where nothing is close."""
    found = difflib.get_close_matches(got, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
