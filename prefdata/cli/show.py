"""How commands speak: results on stdout, everything said along the way on stderr, untrusted text made harmless."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 140
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_JSON_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: object) -> str:
    """Text fit for a terminal: control characters, escape sequences and direction overrides become visible signs."""
    return _UNSAFE.sub(_visible, str(text).replace("\r\n", "\n"))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"\\u{code:04x}"


def cut(text: object, most: int) -> str:
    """The start of a text, with a sign where it goes on."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON of anything a query may give: NaN and infinity are null, ids, times and paths are text."""
    text = json.dumps(_plain(value), ensure_ascii=False, indent=indent, default=str, allow_nan=False)
    return _JSON_UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "to_dicts"):
        return _plain(value.to_dicts())
    return value.hex() if isinstance(value, bytes) else value


def number(value: Any) -> str:
    """A cell: thousands apart, floats to four digits, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def money(cost: float) -> str:
    return "" if not cost else f"${cost:.4f}" if cost < 1 else f"${cost:,.2f}"


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


class Screen:
    """Where one command writes. With `json`, stdout carries one JSON value and nothing else."""

    def __init__(self, json: bool = False) -> None:
        self.json = json

    @cached_property
    def out(self) -> Console:
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        return _console(stderr=True)

    def data(self, value: Any) -> None:
        """The answer for machines."""
        sys.stdout.write(to_json(value) + "\n")

    def line(self, text: object = "", style: str | None = None) -> None:
        from rich.text import Text

        self.out.print(Text(clean(text), style=style or ""), soft_wrap=True)

    def note(self, text: object, style: str = "dim") -> None:
        """Something said along the way: on stderr, so that it never mixes with results."""
        from rich.text import Text

        self.err.print(Text(clean(text), style=style), soft_wrap=True)

    def next(self, command: str) -> None:
        """The last line: what to do now."""
        if not self.json:
            self.note(f"next: {command}")

    def facts(self, values: Mapping[str, Any], title: str = "") -> None:
        """Names and values, one a line."""
        if title:
            self.line(title, "bold")
        wide = max((len(name) for name in values), default=0)
        for name, value in values.items():
            self.line(f"  {name:<{wide}}  {number(value)}")

    def table(
        self, rows: Iterable[Sequence[Any] | Mapping[str, Any]], columns: Sequence[str] = (), title: str = "", *, lines: bool = False
    ) -> None:
        """Rows as a table; numbers stand right, long text folds."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        listed = list(rows)
        if not columns and listed and isinstance(listed[0], Mapping):
            columns = list(listed[0])
        cells = [[row.get(c) for c in columns] if isinstance(row, Mapping) else list(row) for row in listed]
        if title:
            self.line(title, "bold")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_lines=lines, header_style="dim")
        for at, name in enumerate(columns):
            kinds = {type(row[at]) for row in cells if row[at] is not None}
            right = bool(kinds) and kinds <= {int, float}
            table.add_column(Text(clean(name)), justify="right" if right else "left", overflow="fold", no_wrap=right or kinds == {UUID})
        for row in cells:
            table.add_row(*(Text(clean(number(value))) for value in row))
        self.out.print(table)
        self.line()


def fail(message: str, json: bool) -> None:
    """An error of the user's: one sentence on stderr, or an object on stdout for machines."""
    if json:
        Screen(json=True).data({"error": message})
    else:
        Screen().note(f"error: {message}", style="red")


def listen() -> None:
    """Let the package's own notes (waiting for a lock, stopping) reach the user on stderr."""
    log = logging.getLogger("prefdata")
    log.handlers = [h for h in log.handlers if not isinstance(h, _ToScreen)] + [_ToScreen(logging.INFO)]
    log.setLevel(min(log.level or logging.INFO, logging.INFO))


class _ToScreen(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            Screen().note(record.getMessage(), style="yellow" if record.levelno >= logging.WARNING else "dim")
        except Exception:  # a handler must not bring its program down
            self.handleError(record)


def _console(*, stderr: bool) -> Console:
    """Square brackets, colons and numbers in text mean nothing here: no markup, no emoji, no highlighting."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console
