"""Untrusted text on a terminal, and how values are written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from cli_tools import HOSTILE, call
from rich.console import Console

from prefdata.cli import show

HARMFUL = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\r", "\x00", "\x7f", "\ud800")


@pytest.mark.parametrize("sign", HARMFUL, ids=ascii)
def test_a_harmful_character_becomes_visible(sign: str) -> None:
    got = show.clean(f"a{sign}b")
    assert sign not in got
    assert got[0] + got[-1] == "ab"
    assert len(got) > 2
    got.encode()


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand a tab", "[bold]brackets[/bold] :smile:", "żółć 漢字 👩‍🔬 עברית"])
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert show.clean(text) == text


def test_windows_line_ends_are_line_ends() -> None:
    assert show.clean("a\r\nb\rc") == "a\nb␍c"


def test_markup_and_emoji_codes_are_text_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    screen = show.Screen()
    nasty = "[red]x[/red] :smile: \x1b[31m"
    screen.line(nasty)
    screen.table([{"[b]head": nasty}], title=nasty)
    screen.facts({nasty: nasty})
    screen.note(nasty)
    screen.next(nasty)
    show.fail(nasty, json=False)
    for text in capsys.readouterr():
        assert "[red]x[/red] :smile: ␛[31m" in text
        assert "\x1b" not in text


def test_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    screen = show.Screen()
    screen.__dict__["out"] = Console(file=file, force_terminal=True, markup=False, emoji=False, highlight=False, color_system=None)
    screen.table([["[red]x[/red] \x1b[31m"]], ["text"])
    assert "[red]x[/red] ␛[31m" in file.getvalue()


def test_why_and_sql_print_a_hostile_response_harmlessly(filled: Path) -> None:
    for args in (["why", "toys:item/0"], ["sql", "SELECT text FROM responses"], ["why", "toys:item/0", "--full"]):
        out = call(*args).out
        assert "[bold]not bold[/bold]" in out
        assert "␛[31mred" in out
        assert not any(sign in out for sign in ("\x1b", "\x07", "\u202e"))


def test_csv_to_a_pipe_keeps_every_character(filled: Path) -> None:
    assert HOSTILE in call("sql", "SELECT text FROM responses", "--csv").out


def test_json_knows_neither_nan_nor_raw_controls() -> None:
    text = show.to_json({"x": float("nan"), "y": [float("inf"), 1.5], "p": Path("a/b"), "t": "\x1b\x85\u202e\ud800", "b": b"\x01"})
    assert json.loads(text) == {"x": None, "y": [None, 1.5], "p": "a/b", "t": "\x1b\x85\u202e\ud800", "b": "01"}
    assert all(sign not in text for sign in HARMFUL)


def test_cells() -> None:
    assert [show.number(v) for v in (None, True, 1234567, 0.123456, "x")] == ["", "yes", "1,234,567", "0.1235", "x"]
    assert [show.money(v) for v in (0, 0.01234, 12.5, 1234.5)] == ["", "$0.0123", "$12.50", "$1,234.50"]
    assert [show.size(v) for v in (12, 2048, 3 << 20, 5 << 40)] == ["12 B", "2.0 KB", "3.0 MB", "5.0 TB"]
    assert [show.cut("abcdef", n) for n in (6, 4)] == ["abcdef", "abc…"]
