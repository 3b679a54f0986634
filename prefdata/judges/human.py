"""Judge: people, whose votes come in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata.core.ingest import Batch
from prefdata.core.method import method
from prefdata.core.reading import Reading, import_path


@method(version=1, subject="pair")
def human(path: str | Path, *, columns: dict[str, str] | None = None, source: str | None = None) -> Iterator[Batch]:
    """Votes from a file (.jsonl, .csv, .parquet, also packed): one row per vote, with item_id, annotator_id and label.

    label is a, b, tie, both_bad or abstain in the frame of the imported item; strength, reason, shown, seconds and annotator_kind
    (human where it is not said) may stand beside it. item_id names a pair imported before, or a prompt together with model_a and
    model_b; a vote on something that is not in the store is refused with its line. A second import of a file adds nothing.

    Args:
        columns: field -> the file's own name for it, such as {"annotator_id": "rater", "label": "choice"}.
        source: the name of the set the votes are on, for rows that do not say.
    """
    yield from import_path(path, Reading("annotations", columns, source))
