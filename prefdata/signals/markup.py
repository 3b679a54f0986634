"""Signal: how much Markdown a response carries."""

from __future__ import annotations

import polars as pl

from prefdata.core import markup as marks
from prefdata.core.method import method


@method(
    version=1,
    subject="response",
    needs=("text",),
    gives={
        "markup_headings": "count",
        "markup_bullets": "count",
        "markup_numbered": "count",
        "markup_bold": "count",
        "markup_tables": "count",
        "markup_code_blocks": "count",
    },
)
def markup(rows: pl.DataFrame) -> pl.DataFrame:
    """Headings, list items (bulleted, numbered), bold stretches, tables and fenced code blocks of a response; 0 where there is none.

    Nothing inside a code block counts. A judge that prefers form over content shows in the differences of these counts
    between chosen and rejected.
    """
    return marks.counts(rows["text"]).select(pl.all().name.prefix("markup_"))
