"""Untrusted text -> Markdown that shows what the author wrote and loads nothing.

HTML stays text, images are not fetched, and Streamlit's own additions to Markdown (`:red[...]`, `:smile:`, ` -> `) are
switched off: an annotator must see the characters of the response. Code and LaTeX are rendered. Where a character must
lose its meaning without a visible backslash, a word joiner (U+2060, no width) is put behind it.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from itertools import groupby

JOINER = "\u2060"
LONG = 40_000
"""Texts with more characters are shown as plain text: Markdown of that size makes a browser stutter."""
MANY_TOKENS = 2_500
"""Longer texts are compared by line instead of by word."""

_TOKENS = re.compile(
    r"""
    ^(?P<fence>[ \t]{0,3}(?P<mark>`{3,}|~{3,})[^\n]*(?:\n|\Z)
        (?: (?:[^\n]*\n)*?[ \t]{0,3}(?P=mark)[`~]*[ \t]*$ | [\s\S]*\Z ))
  | (?P<display> \\\[ (?:(?!\\\]|\n[ \t]*\n)[\s\S]){1,3000} \\\] | \$\$ (?:(?!\$\$|\n[ \t]*\n)[\s\S]){1,3000} \$\$ )
  | (?P<inline> \\\( (?:(?!\\\))[^\n]){1,500} \\\) | \$(?![\s$])(?:\\.|[^$\n\\]){1,500}(?<![\s\\])\$(?!\d) )
  | (?P<escaped> \\[\s\S] )
  | (?P<code> (?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n)[\s\S]){1,2000}?(?<!`)(?P=ticks)(?!`) )
  | (?P<arrow> (?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S) )
  | (?P<image> !\[ )
  | (?P<tag> <(?=[A-Za-z/!?]) )
  | (?P<directive> :(?=[A-Za-z][\w-]*[\[{]) )
  | (?P<colon> (?<!mailto):(?=[A-Za-z:]|[\w+-]+:) )
  | (?P<dollar> \$ )
    """,
    re.MULTILINE | re.VERBOSE,
)
_DIAGRAM = re.compile(r"(?<![`~])([`~]{3,}+[ \t]*+)mermaid", re.IGNORECASE)
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_WORDS = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")


@lru_cache(maxsize=256)
def safe_markdown(text: str) -> str:
    """`text` as Markdown for `st.markdown`, without effects its author could use on the page or the reader."""
    return _DIAGRAM.sub(rf"\1{JOINER}mermaid", _TOKENS.sub(_tamed, text))


def _tamed(match: re.Match[str]) -> str:
    kind, token = match.lastgroup, match.group()
    if kind == "mark":
        kind = "fence"
    if kind == "ticks":
        kind = "code"
    if kind in ("fence", "code"):
        return token.replace("![", f"!{JOINER}[").replace(":material/", f":{JOINER}material/")
    if kind in ("display", "inline"):
        return _formula(token, "$$" if kind == "display" else "$")
    if kind == "escaped":
        return token
    if kind == "directive":
        return f"\\{token}{JOINER}"
    return f"\\{token}" if kind == "dollar" else token[0] + JOINER + token[1:]


def _formula(token: str, mark: str) -> str:
    """LaTeX between dollar signs, on one line, in place of its backslash brackets."""
    inner = token[2:-2] if token.startswith(("\\", "$$")) else token[1:-1]
    inner = " ".join(inner.split()).replace("![", "!{}[")
    return f"{mark}{inner}{mark}" if "$" not in inner.replace("\\$", "") else literal(token)


def literal(text: str, *, inside: bool = False) -> str:
    """Markdown that shows `text` character by character; line breaks and indentation stay.

    Args:
        inside: the text goes on in the middle of a line, where a space is a space.
    """
    lines = []
    for number, line in enumerate(text.split("\n")):
        body = line if inside and number == 0 else line.lstrip(" \t")
        indent = "\u00a0" * len(line[: len(line) - len(body)].expandtabs(4))
        lines.append(indent + _PUNCTUATION.sub(lambda found: f"\\{found.group()}{JOINER}", body))
    return "  \n".join(lines)


@lru_cache(maxsize=64)
def differences(left: str, right: str) -> tuple[str, str]:
    """Both texts as Markdown, with what the other one does not have on a coloured ground."""
    first, second = _WORDS.findall(left), _WORDS.findall(right)
    many = max(len(first), len(second)) > MANY_TOKENS
    if many:
        first, second = left.splitlines(keepends=True), right.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=many)
    sides: tuple[list[tuple[bool, str]], list[tuple[bool, str]]] = ([], [])
    for kind, a, b, c, d in matcher.get_opcodes():
        for side, tokens in zip(sides, (first[a:b], second[c:d]), strict=True):
            text = "".join(tokens)
            side.append((kind != "equal" or text.isspace(), text))  # a space between two marked words is marked too
    return _joined(sides[0]), _joined(sides[1])


def _joined(pieces: list[tuple[bool, str]]) -> str:
    made = ""
    for marked, group in groupby(pieces, key=lambda piece: piece[0]):
        made += _piece("".join(text for _, text in group), bool(made) and not made.endswith("\n"), marked)
    return made


def _piece(text: str, inside: bool, marked: bool) -> str:
    """A stretch of one text; where marked, each of its lines by itself, as a directive must not reach over a line's end."""
    if not marked:
        return literal(text, inside=inside)
    lines = []
    for number, line in enumerate(text.split("\n")):
        body = line.strip()
        start = line[: len(line) - len(line.lstrip())]
        end = line[len(line.rstrip()) :] if body else ""
        lines.append(literal(start, inside=inside and number == 0) + (f":blue-background[{literal(body)}]" if body else "") + end)
    return "  \n".join(lines)
