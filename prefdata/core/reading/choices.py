"""Words that say which of two is better -> choice and strength."""

from __future__ import annotations

import polars as pl

_GRADES = {"clearly": 1.0, "slightly": 0.5, "": None}


def _words() -> dict[str, tuple[str, float | None]]:
    """Lower-case word -> choice, and strength in [-1, 1] where the word carries one.

    Graded words stand for a margin of 2 (clearly), 1 (slightly) or 0 (tie); strength is half the margin, negative where
    b is better. "a-is-better" has no grade and so no strength. `A>>B` counts as clearly, `A>B` as slightly.
    """
    words: dict[str, tuple[str, float | None]] = {"both_bad": ("both_bad", None), "abstain": ("abstain", None)}
    words |= {"tie": ("tie", 0.0), "a=b": ("tie", 0.0), "b=a": ("tie", 0.0)}
    words |= dict.fromkeys(("tie (bothbad)", "tie (both bad)", "bothbad"), ("both_bad", None))
    for choice, other, sign in (("a", "b", 1), ("b", "a", -1)):
        words |= dict.fromkeys((choice, f"model_{choice}", f"response_{choice}"), (choice, None))
        for grade, strength in _GRADES.items():
            words[f"{choice}-is-{grade}-better".replace("--", "-")] = (choice, strength and sign * strength)
        words |= {f"{choice}>{other}": (choice, sign * 0.5), f"{other}<{choice}": (choice, sign * 0.5)}
        words |= {f"{choice}>>{other}": (choice, sign * 1.0), f"{other}<<{choice}": (choice, sign * 1.0)}
    return words


WORDS = _words()
ALLOWED = "a, b, tie, both_bad, abstain, model_a, model_b, tie (bothbad), a-is-slightly-better, b-is-clearly-better, A>>B and the like"


def choices(labels: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Choice, strength, and where a word is unknown. Capitals and the space around a word do not matter."""
    words = labels.str.to_lowercase().str.strip_chars().str.replace_all("[ _]is[ _]", "-is-").str.replace_all("[ _]better", "-better")
    choice = words.replace_strict({word: found for word, (found, _) in WORDS.items()}, default=None, return_dtype=pl.String)
    strength = words.replace_strict({word: found for word, (_, found) in WORDS.items()}, default=None, return_dtype=pl.Float64)
    return choice, strength, labels.is_not_null() & choice.is_null()
