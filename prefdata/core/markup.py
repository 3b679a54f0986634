"""Markdown in a column of texts: headings, list items, bold stretches, tables, code blocks.

Code is set aside first: a `# comment` in a fenced block is no heading. A fence that is never closed opens none.
"""

from __future__ import annotations

import polars as pl

_FENCED = r"(?m)^[ \t]*```[^\n]*\n(?s:.*?)^[ \t]*```+[ \t]*\r?$"
_PATTERNS = {
    "headings": r"(?m)^ {0,3}#{1,6}[ \t]+\S",
    "bullets": "(?m)^[ \t]*[-*+\u2022][ \t]+\\S",
    "numbered": r"(?m)^[ \t]*\d{1,3}[.)][ \t]+\S",
    "bold": r"\*\*[^\s*](?:[^*\n]*[^\s*])?\*\*|__[^\s_](?:[^_\n]*[^\s_])?__",
    "tables": r"(?m)^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*\r?$",
}
KINDS = (*_PATTERNS, "code_blocks")
"""What is counted; a table by the line of dashes under its head."""


def without_code(texts: pl.Series) -> pl.Series:
    """The texts without their fenced code blocks."""
    return texts.str.replace_all(_FENCED, "")


def counts(texts: pl.Series) -> pl.DataFrame:
    """One column for each of `KINDS`, row by row; null for null."""
    prose = without_code(texts)
    found = {kind: prose.str.count_matches(pattern) for kind, pattern in _PATTERNS.items()}
    return pl.DataFrame({**found, "code_blocks": texts.str.count_matches(_FENCED)})
