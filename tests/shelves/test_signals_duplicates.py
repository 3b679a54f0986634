"""Near-duplicates: against a plain loop, by the laws of a greedy star, at the edges."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefdata.core import minhash, shingles
from prefdata.core.errors import PrefdataError
from prefdata.core.minhash import group_columns, near_duplicates

documents = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=8).map(" ".join), max_size=12)


def grams(one: str, n: int) -> set[tuple[str, ...]]:
    cut = one.split()
    return {tuple(cut[k : k + n]) for k in range(len(cut) - n + 1)} or ({tuple(cut)} if cut else set())


def jaccard(one: str, other: str, n: int) -> float:
    a, b = grams(one, n), grams(other, n)
    return len(a & b) / len(a | b)


def greedy(texts: list[str], n: int, threshold: float) -> list[int]:
    """The first earlier first that reaches the threshold, or oneself; -1 without words."""
    sets = [grams(one, n) for one in texts]
    first: list[int] = []
    for place, own in enumerate(sets):
        alike = (k for k in range(place) if first[k] == k and own and len(sets[k] & own) / len(sets[k] | own) >= threshold)
        first.append(next(alike, place) if own else -1)
    return first


@settings(max_examples=200, deadline=None)
@given(texts=documents, n=st.integers(1, 4), threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_what_is_joined_is_alike(texts: list[str], n: int, threshold: float) -> None:
    found = near_duplicates(pl.Series(texts, dtype=pl.String), n=n, threshold=threshold)
    for place, (first, similarity) in enumerate(zip(found.first.tolist(), found.similarity.tolist(), strict=True)):
        if not texts[place].split():
            assert (first, np.isnan(similarity)) == (-1, True)
            continue
        assert first <= place
        assert found.first[first] == first
        assert similarity == pytest.approx(jaccard(texts[first], texts[place], n) if first != place else 1)
        assert similarity >= threshold
    for one, other in combinations([k for k, first in enumerate(found.first) if first >= 0], 2):
        if found.first[one] == found.first[other]:
            assert jaccard(texts[one], texts[other], n) >= 2 * threshold - 1 - 1e-9


@settings(max_examples=200, deadline=None)
@given(texts=documents)
@example(texts=["a a a a a a a a", "a a a", "a b", "a b a"])
def test_equal_sets_are_always_joined(texts: list[str]) -> None:
    found = near_duplicates(pl.Series(texts, dtype=pl.String), threshold=1.0)
    for one, other in combinations(range(len(texts)), 2):
        assert (found.first[one] == found.first[other]) == (grams(texts[one], 3) == grams(texts[other], 3))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(texts=documents)
def test_firsts_stay_firsts(texts: list[str]) -> None:
    """Looking again at what was kept finds nothing more."""
    column = pl.Series(texts, dtype=pl.String)
    kept = np.flatnonzero(near_duplicates(column).first == np.arange(len(texts)))
    again = near_duplicates(column.gather(kept)).first
    assert again.tolist() == list(range(len(kept)))


@pytest.mark.parametrize(("threshold", "words"), [(0.5, 12), (0.65, 20), (0.8, 12), (0.8, 40), (0.9, 80)])
def test_practically_all_that_is_alike_is_found(threshold: float, words: int) -> None:
    dice = random.Random(words)
    vocabulary = [f"w{k}" for k in range(3000)]
    texts: list[str] = []
    for _ in range(800):
        one = dice.choice(texts).split() if texts and dice.random() < 0.5 else [dice.choice(vocabulary) for _ in range(words)]
        for _ in range(dice.choice([0, 1, 1, 2])):
            one[dice.randrange(len(one))] = dice.choice(vocabulary)
        texts.append(" ".join(one))
    wanted = np.array(greedy(texts, 2, threshold))
    found = near_duplicates(pl.Series(texts), n=2, threshold=threshold).first
    members = wanted != np.arange(len(texts))
    assert members.sum() > 50
    assert (found[members] == wanted[members]).mean() >= 0.97
    assert (found[~members] == wanted[~members]).mean() >= 0.97


def test_blocks_and_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series([f"this is text number {k // 3} of a set with copies" for k in range(300)])
    whole = near_duplicates(texts)
    monkeypatch.setattr(shingles, "BLOCK_BYTES", 500)
    monkeypatch.setattr(shingles, "CHUNK", 50)
    parts = near_duplicates(texts)
    assert whole.first.tolist() == parts.first.tolist()


def test_a_crowd_of_one_text_in_many_versions() -> None:
    """One bucket holds everything: each member is compared with the first, so all are found without comparing all with all."""
    base = [f"w{k}" for k in range(200)]
    texts = pl.Series([" ".join([*base[:k], "x", *base[k + 1 :]]) for k in range(1, 199)] * 20)
    found = near_duplicates(texts, threshold=0.9)
    assert set(found.first.tolist()) == {0}


def test_a_long_chain_is_cut_into_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text has 0.8 of the one before it; whatever decides, rounds or the loop behind them, comes to the same."""
    chain = pl.Series([" ".join(f"w{k}" for k in range(3 * start, 3 * start + 29)) for start in range(200)])
    wanted = greedy(chain.to_list(), 3, 0.8)
    assert near_duplicates(chain).first.tolist() == wanted
    monkeypatch.setattr(minhash, "_ROUNDS", 1)
    assert near_duplicates(chain).first.tolist() == wanted


def test_parts_are_one_document_in_any_order() -> None:
    a, b, c = "how large is it", "it is very large indeed", "it is rather small"
    found = near_duplicates(pl.Series([a, b, c, a, c, b, a, b, b]), parts=3)
    assert found.first.tolist() == [0, 0, 2]


@pytest.mark.parametrize("texts", [[], ["", "...", " "], [None, None]])
def test_nothing_to_compare(texts: list[str | None]) -> None:
    made = group_columns("x", [pl.Series(texts, dtype=pl.String)], 3, 0.8, "near")
    assert made.rows() == [(None, None, None)] * len(texts)


@pytest.mark.parametrize(("n", "threshold", "said"), [(0, 0.8, "n is 0"), (3, 0.0, "threshold is 0.0"), (3, 1.1, "threshold is 1.1")])
def test_bounds(n: int, threshold: float, said: str) -> None:
    with pytest.raises(PrefdataError, match=said):
        group_columns("signals/near_duplicate", [pl.Series(["x"])], n, threshold, "near")


def test_ranks_count_within_a_group() -> None:
    made = group_columns("x", [pl.Series(["a b c d", "x y z", "a b c d", "x y z", "a b c d"])], 3, 0.8, "near")
    assert made["near_rank"].to_list() == [0, 0, 1, 1, 2]
    assert made["near_group"].to_list() == [0, 1, 0, 1, 0]
