"""The language of many texts at once: what `text.language` guesses for one, by the same scripts and frequent words.

The start of the prose decides, code blocks aside. None where it is not clear, as with a word or two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from prefdata.core.markup import without_code
from prefdata.core.shingles import Flags, Hashed, Hashes, Ints, column, utf8, words
from prefdata.core.stats import Reals
from prefdata.core.text import _LATIN, _LETTERS, _SCRIPT_CODES, _SCRIPTS, _STOP

WITHIN = 600
"""Characters of prose that are looked at."""
_LEAD = 1.4
"""The best language has this many times the points of the second."""
_SHARE = 0.03
"""Points per word of the text that the best language must have: names, code and formulas have next to none."""


def languages(texts: pl.Series) -> pl.Series:
    """ISO 639-1 code of the language each text is mostly written in (see `text.known_languages`), null where that is not clear."""
    table = without_code(texts).str.head(WITHIN).fill_null("").str.to_lowercase().alias("text").to_frame().with_row_index("row")
    foreign = table.filter(_maybe_foreign(table["text"])).with_columns(letters=pl.col("text").str.count_matches(r"\p{L}"))
    scripts = [
        pl.when(pl.col("text").str.count_matches(rf"[{pattern}&&\p{{L}}]") > pl.col("letters") / 2).then(pl.lit(name))
        for name, pattern in _SCRIPTS.items()
    ]
    foreign = foreign.with_columns(script=pl.coalesce(scripts)).drop_nulls("script")
    latin = table.join(foreign, on="row", how="anti", maintain_order="left")
    found = [latin.select("row", code=by_words(latin["text"], _LATIN, least=1.5))]
    for (script,), rows in foreign.group_by("script"):
        found.append(rows.select("row", code=_of_script(str(script), rows)))
    return table.select("row").join(pl.concat(found), on="row", how="left", maintain_order="left")["code"].alias(texts.name)


def _maybe_foreign(texts: pl.Series) -> pl.Series:
    """Texts with more bytes beyond ASCII than ASCII letters: no other can be mostly in another script than Latin."""
    data, starts = utf8(texts)
    balance = (data >= 0x80).astype(np.int64) - (data - np.uint8(97) < 26)
    until = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(balance)])
    return pl.Series(until[starts[1:]] > until[starts[:-1]], dtype=pl.Boolean)


def _of_script(script: str, rows: pl.DataFrame) -> pl.Series:
    text, codes = pl.col("text"), _SCRIPT_CODES[script]
    if len(codes) == 1:
        return pl.Series([codes[0]] * rows.height, dtype=pl.String)
    if script == "cjk":
        kana = text.str.count_matches("[\u3040-\u30ff]") / pl.col("letters")
        return rows.select(pl.when(kana > 0.1).then(pl.lit("ja")).otherwise(pl.lit("zh")).alias("code"))["code"]
    if script == "arabic":
        urdu, persian = text.str.contains("[ٹڈڑںے]"), text.str.contains("[پچژگ]")
        return rows.select(pl.when(urdu).then(pl.lit("ur")).when(persian).then(pl.lit("fa")).otherwise(pl.lit("ar")).alias("code"))["code"]
    guess = by_words(rows["text"], codes, least=1)
    if script == "cyrillic":
        russian, ukrainian = text.str.contains("[ыэё]"), text.str.contains("[іїєґ]")
        return rows.select(pl.when(russian).then(pl.lit("ru")).when(ukrainian).then(pl.lit("uk")).otherwise(guess).alias("code"))["code"]
    return guess


@dataclass(frozen=True)
class _Frequent:
    """Frequent words by hash, and what one is worth to each language: 1 shared among the languages that have it."""

    hashes: Hashes
    quick: Flags
    """Whether any of them has these upper 16 bits."""
    letter: Flags
    """Whether it is a single letter."""
    worth: Reals


@cache
def _frequent(among: tuple[str, ...]) -> _Frequent:
    listed = sorted({word for code in among for word in _STOP[code].split()})
    has = np.array([[word in _STOP[code].split() for code in among] for word in listed], dtype=float)
    hashes = words(_tied(pl.Series(listed))).hashes.astype(np.uint64)
    order = np.argsort(hashes)
    quick = np.zeros(1 << 16, dtype=np.bool_)
    quick[(hashes >> np.uint64(48)).astype(np.int64)] = True
    single = np.array([len(word) == 1 for word in listed])
    return _Frequent(hashes[order], quick, single[order], (has / has.sum(axis=1, keepdims=True))[order])


def _tied(texts: pl.Series) -> pl.Series:
    """Apostrophes become letters, so that c'est stays one word; the Indic full stop becomes a mark."""
    return texts.str.replace_all("['\u2019]", "_").str.replace_all("\u0964", " ")


def is_frequent(cut: Hashed) -> Flags:
    """For each word of `shingles.words`, whether it is one of the frequent words of some language."""
    return _looked_up(_frequent(tuple(_STOP)), cut)[1]


def _looked_up(frequent: _Frequent, cut: Hashed) -> tuple[Ints, Flags]:
    """For each word its place among the frequent ones, and whether it is one."""
    found = frequent.quick[(cut.hashes >> np.uint64(48)).astype(np.int64)]
    place = np.zeros(len(cut.hashes), dtype=np.int64)
    place[found] = np.searchsorted(frequent.hashes, cut.hashes[found]).clip(max=len(frequent.hashes) - 1)
    found[found] = frequent.hashes[place[found]] == cut.hashes[found]
    return place, found


def by_words(texts: pl.Series, among: tuple[str, ...], least: float) -> pl.Series:
    """The language of `among` whose frequent words and letters a lower-case text has most of, if it leads clearly."""
    frequent, cut = _frequent(among), column(_tied(texts))
    place, found = _looked_up(frequent, cut)
    word, text = place[found], cut.owners[found]
    letter = frequent.letter[word]
    once = np.unique(text[letter] * len(frequent.hashes) + word[letter])  # a variable or a note stands there many times
    word = np.concatenate([word[~letter], once % len(frequent.hashes)])
    points = _summed(frequent, word, np.concatenate([text[~letter], once // len(frequent.hashes)]), len(texts))
    for number, code in enumerate(among):
        if code in _LETTERS:
            points[:, number] += texts.str.contains(f"[{_LETTERS[code]}]").to_numpy()
    ranked = np.sort(points, axis=1)
    best = pl.Series(among).gather(points.argmax(axis=1))
    enough = np.maximum(least, _SHARE * cut.counts)
    sure = (ranked[:, -1] >= enough) & (ranked[:, -1] >= _LEAD * ranked[:, -2])
    return pl.DataFrame({"code": best, "sure": sure}).select(pl.when("sure").then("code").alias("code"))["code"]


def _summed(frequent: _Frequent, word: Ints, text: Ints, size: int) -> Reals:
    """Points of each text for each language [texts, languages]."""
    languages_of = frequent.worth.shape[1]
    which, code = np.nonzero(frequent.worth)
    starts = np.searchsorted(which, np.arange(len(frequent.hashes) + 1))
    counts = np.diff(starts)[word]
    entry = np.arange(counts.sum()) + np.repeat(starts[word] - (np.cumsum(counts) - counts), counts)
    flat = np.repeat(text, counts) * languages_of + code[entry]
    points: Reals = np.bincount(flat, weights=frequent.worth[which[entry], code[entry]], minlength=size * languages_of).astype(np.float64)
    return points.reshape(size, languages_of)
