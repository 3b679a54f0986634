"""Signal: how much of a prompt stands in a held-out set."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from prefdata.core import shingles
from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.core.method import method


@method(
    version=1,
    subject="prompt",
    needs=("prompt",),
    gives={"contamination": "share of words, 0 to 1"},
    paper="Touvron et al. 2023 (Llama 2), arXiv:2307.09288, appendix A.6: share of tokens in n-grams that occur in the other set",
)
def contamination(rows: pl.DataFrame, *, against: list[Path], column: str = "prompt", n: int = 8) -> pl.DataFrame:
    """Share of a prompt's words that stand in word n-grams of a held-out set, such as an evaluation's prompts: 1 where all do.

    Only the prompt's last message is looked at; letter case and punctuation do not count. A text with fewer than n words is one
    n-gram: a short prompt counts only where it stands in the set as a whole. Null for a prompt without words.

    Args:
        against: files with held-out texts: .txt with one in each line, or .jsonl, .json, .csv or .parquet with a column of texts.
        column: the column that holds them.
        n: words in an n-gram, 3 to 20; 8 leaves common phrases alone.
    """
    if not 3 <= n <= 20:
        raise BadValue("signals/contamination: n", n, "3 to 20")
    held = _held_out(tuple(against), column, n, tuple(file.stat().st_mtime_ns for file in against if file.is_file()))
    cut = shingles.column(rows["prompt"])
    grams = shingles.ngrams(cut, n, short=True)
    hit = held[np.searchsorted(held, grams.hashes).clip(max=len(held) - 1)] == grams.hashes
    # Where each n-gram starts and ends among all words; sums of +1 and -1 say which words stand in one that was found.
    first = np.arange(len(grams.hashes)) + np.repeat(cut.starts[:-1] - grams.starts[:-1], grams.counts)
    steps = np.zeros(len(cut.hashes) + 1, dtype=np.int64)
    np.add.at(steps, first[hit], 1)
    np.add.at(steps, np.minimum(first + n, np.repeat(cut.starts[1:], grams.counts))[hit], -1)
    found = shingles.Hashed(cut.hashes, cut.starts).where(np.cumsum(steps[:-1]) > 0)
    return pl.DataFrame({"found": found.counts, "words": cut.counts}).select(
        pl.when(pl.col("words") > 0).then(pl.col("found") / pl.col("words")).alias("contamination")
    )


@lru_cache(maxsize=2)
def _held_out(files: tuple[Path, ...], column: str, n: int, changed: tuple[int, ...]) -> shingles.Hashes:
    """The sets' n-grams, sorted; read once for all chunks of rows, as long as the files do not change."""
    grams = [shingles.ngrams(shingles.column(_texts(file, column)), n, short=True).hashes for file in files]
    if not sum(map(len, grams)):
        named = ", ".join(map(str, files)) or "nothing"
        raise PrefdataError(f"signals/contamination: against names no text to compare with ({named}); give files with held-out texts.")
    return np.unique(np.concatenate(grams)).astype(np.uint64)


def _texts(path: Path, column: str) -> pl.Series:
    if not path.is_file():
        raise PrefdataError(f"signals/contamination: there is no file {str(path)!r}; give against: FILE with the held-out texts.")
    kind = path.suffix.lower()
    if kind == ".txt":
        return pl.Series(path.read_text(encoding="utf-8").splitlines(), dtype=pl.String)
    try:
        frame = _read(path, kind)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PrefdataError(f"signals/contamination: {str(path)!r} cannot be read as {kind}: {str(error).splitlines()[0]}") from None
    if column not in frame.columns:
        raise UnknownName("column", column, frame.columns, f" of {str(path)!r}")
    if frame.schema[column] != pl.String:
        raise BadValue(f"signals/contamination: column {column!r} of {str(path)!r}", str(frame.schema[column]), "a column of texts")
    return frame[column]


def _read(path: Path, kind: str) -> pl.DataFrame:
    if kind in (".jsonl", ".ndjson"):
        return pl.read_ndjson(path)
    if kind == ".json":
        return pl.read_json(path)
    if kind == ".csv":
        return pl.read_csv(path)
    if kind == ".parquet":
        return pl.read_parquet(path)
    raise BadValue("signals/contamination: against", str(path), "a .txt, .jsonl, .json, .csv or .parquet file")
