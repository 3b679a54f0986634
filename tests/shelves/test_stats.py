"""The numbers of core/stats against plain loops, published examples, and the silent errors of other packages."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core import stats, strengths
from prefdata.core.errors import PrefdataError

Counts = list[tuple[int, int, int, int, int]]
TIES = ("davidson", "rao_kupper", "half")


def fit(counts: Counts, items: int, **options: Any) -> strengths.Strengths:
    columns = [np.array(column) for column in zip(*counts, strict=True)] if counts else [np.zeros(0, dtype=int)] * 5
    return strengths.bradley_terry(columns[0], columns[1], *(c.astype(float) for c in columns[2:]), items=items, **options)


def chances(d: float, ties_as: str, tie: float) -> tuple[float, float, float]:
    """P(first), P(second), P(tie), as the papers print them."""
    if ties_as == "davidson":
        x, y = math.exp(d / 2), math.exp(-d / 2)
        z = x + y + tie
        return x / z, y / z, tie / z
    alpha = tie if ties_as == "rao_kupper" else 0.0
    first, second = 1 / (1 + math.exp(alpha - d)), 1 / (1 + math.exp(alpha + d))
    return first, second, 1 - first - second


def likelihood(counts: Counts, strength: stats.Reals, ties_as: str, tie: float, l2: float) -> float:
    total = -l2 / 2 * sum(s * s for s in strength)
    for i, j, wins, losses, tied in counts:
        first, second, neither = chances(strength[i] - strength[j], ties_as, tie)
        if ties_as == "half":
            wins, losses, tied = wins + tied / 2, losses + tied / 2, 0
        total += wins * math.log(first) + losses * math.log(second) + (tied * math.log(neither) if tied else 0.0)
    return total


counted = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).filter(lambda c: c[0] != c[1]),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("ties_as", TIES)
@settings(max_examples=60, deadline=None)
@given(counts=counted, l2=st.sampled_from([0.01, 0.1, 1.0]))
def test_no_step_away_from_the_fit_is_better(ties_as: str, counts: Counts, l2: float) -> None:
    """The likelihood is concave, so a point that no small step improves is the maximum."""
    model = fit(counts, 5, ties_as=ties_as, l2=l2)
    if math.isinf(model.tie):
        assert all(wins == losses == 0 for _, _, wins, losses, _ in counts)
        return
    best = likelihood(counts, model.strength, ties_as, model.tie, l2)
    for item, step in product(range(5), (-1e-3, 1e-3)):
        moved = model.strength.copy()
        moved[item] += step
        assert likelihood(counts, moved, ties_as, model.tie, l2) <= best + 1e-9
    for factor in (0.999, 1.001) if model.tie else ():
        assert likelihood(counts, model.strength, ties_as, model.tie * factor, l2) <= best + 1e-9


@settings(max_examples=30, deadline=None)
@given(wins=st.lists(st.integers(1, 9), min_size=12, max_size=12))
def test_plain_maximum_is_that_of_the_textbook_iteration(wins: list[int]) -> None:
    """Zermelo's iteration p_i = W_i / sum_j n_ij / (p_i + p_j), run until nothing moves."""
    pairs = list(combinations(range(4), 2))
    counts = [(i, j, wins[2 * n], wins[2 * n + 1], 0) for n, (i, j) in enumerate(pairs)]
    table = np.zeros((4, 4))
    for i, j, w, lost, _ in counts:
        table[i, j], table[j, i] = w, lost
    p = np.ones(4)
    for _ in range(2000):
        p = np.array([table[i].sum() / sum((table[i, j] + table[j, i]) / (p[i] + p[j]) for j in range(4) if j != i) for i in range(4)])
        p /= np.exp(np.log(p).mean())
    assert fit(counts, 4, l2=0).strength == pytest.approx(np.log(p), abs=1e-6)


def test_outcomes_of_the_published_example() -> None:
    """Rao and Kupper at alpha 0.5: D = 0 gives win 0.3775, tie 0.2449; D = 1 gives win 0.6225, loss 0.1824, tie 0.1951."""
    win, tie = strengths.outcome(np.array([0.0, 1.0]), "rao_kupper", 0.5)
    assert win == pytest.approx([0.3775, 0.6225], abs=5e-5)
    assert tie == pytest.approx([0.2449, 0.1951], abs=5e-5)
    assert 1 - win[1] - tie[1] == pytest.approx(0.1824, abs=5e-5)


def test_order_and_side_do_not_matter() -> None:
    counts = [(0, 1, 5, 2, 1), (1, 2, 3, 3, 2), (2, 0, 1, 4, 0), (0, 1, 1, 0, 0)]
    turned = [(j, i, losses, wins, tied) for i, j, wins, losses, tied in reversed(counts)]
    for ties_as in TIES:
        one, other = fit(counts, 3, ties_as=ties_as), fit(turned, 3, ties_as=ties_as)
        assert one.strength == pytest.approx(other.strength, abs=1e-9)
        assert one.tie == pytest.approx(other.tie, abs=1e-9)


def test_islands_are_fitted_apart() -> None:
    """Each island of a graph gets what it would get alone, numbered, its mean strength 0; an item nobody met is its own."""
    model = fit([(0, 1, 3, 1, 0), (3, 4, 1, 5, 0)], 6, ties_as="half")
    assert model.component.tolist() == [0, 0, 1, 2, 2, 3]
    assert model.strength[[0, 1]] == pytest.approx(fit([(0, 1, 3, 1, 0)], 2, ties_as="half").strength)
    assert model.strength[[3, 4]] == pytest.approx(fit([(0, 1, 1, 5, 0)], 2, ties_as="half").strength)
    assert model.strength[[2, 5]].tolist() == [0, 0]


def test_nothing_to_compare() -> None:
    assert fit([], 0).strength.tolist() == []
    assert fit([], 3).strength.tolist() == [0, 0, 0]
    assert fit([(1, 1, 4, 0, 0), (0, 1, 0, 0, 0)], 2).strength.tolist() == [0, 0]


def test_an_item_that_never_wins_spoils_nobody() -> None:
    """evalica gives every item 1e-6 here; the others must keep their order and distances, and the loser come last."""
    fair = [(0, 1, 6, 3, 0), (1, 2, 5, 4, 0), (0, 2, 7, 2, 0)]
    with_loser = fit([*fair, (0, 3, 5, 0, 0)], 4, ties_as="half").strength
    alone = fit(fair, 3, ties_as="half").strength
    assert np.isfinite(with_loser).all()
    assert np.diff(with_loser[:3]) == pytest.approx(np.diff(alone), abs=0.1)
    assert with_loser.argmin() == 3
    assert with_loser[3] < with_loser[:3].min() - 2


def test_without_a_ridge_a_perfect_winner_is_an_error_that_says_so() -> None:
    with pytest.raises(PrefdataError, match=r"no finite answer: item 1 .* l2 above 0"):
        fit([(0, 1, 3, 0, 0)], 2, l2=0)
    assert fit([(0, 1, 3, 0, 1)], 2, l2=0, ties_as="half").strength == pytest.approx([math.log(7) / 2, -math.log(7) / 2])


def test_a_tie_is_no_item_and_the_fit_goes_to_the_end() -> None:
    """crowd-kit makes an item called "tie", NaN everywhere, and stops after two rounds, 0.97 log-units off the truth."""
    rng = np.random.default_rng(0)
    truth = np.linspace(-2, 2, 12)
    counts = []
    for i, j in combinations(range(12), 2):
        won, lost, tied = rng.multinomial(2000, chances(truth[i] - truth[j], "davidson", 0.7))
        counts.append((i, j, int(won), int(lost), int(tied)))
    model = fit(counts, 12, l2=1e-3)
    assert len(model.strength) == 12
    assert abs(model.strength - truth).max() < 0.06
    assert model.tie == pytest.approx(0.7, abs=0.02)
    assert model.rounds > 2


def test_wilson() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 starts at 0 and ends at z^2 / (20 + z^2)."""
    assert stats.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    z2 = 1.959963984540054**2
    assert stats.wilson(0, 20) == pytest.approx((0.0, z2 / (20 + z2)))
    assert stats.wilson(0, 0) is None


def test_cohen_kappa() -> None:
    """20 + 15 of 50 agree: 0.7; by chance (25 * 30 + 25 * 20) / 2500 = 0.5; kappa = 0.2 / 0.5."""
    assert stats.cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert stats.cohen_kappa(np.array([[4, 0], [0, 0]])) is None
    assert stats.cohen_kappa(np.zeros((2, 2))) is None


def alpha_of_pairs(units: list[list[int]], level: str) -> float | None:
    """Krippendorff's alpha from all pairs of values, as defined."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    count = {value: values.count(value) for value in set(values)}

    def distance(x: int, y: int) -> float:
        if level == "nominal":
            return float(x != y)
        if level == "interval":
            return float((x - y) ** 2)
        low, high = min(x, y), max(x, y)
        return float((sum(n for v, n in count.items() if low <= v <= high) - (count[x] + count[y]) / 2) ** 2) if x != y else 0.0

    observed = sum(sum(distance(x, y) for x in unit for y in unit) / (len(unit) - 1) for unit in units)
    expected = sum(distance(x, y) for x in values for y in values) / (len(values) - 1) if len(values) > 1 else 0.0
    return 1 - observed / expected if expected else None


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@settings(max_examples=60, deadline=None)
@given(units=st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=8))
def test_alpha_is_that_of_the_definition(level: Any, units: list[list[int]]) -> None:
    counts = np.array([[unit.count(value) for value in range(4)] for unit in units], dtype=float)
    wanted = alpha_of_pairs(units, level)
    got = stats.krippendorff_alpha(counts, level)
    assert (got is None) == (wanted is None)
    assert wanted is None or got == pytest.approx(wanted, abs=1e-9)


def test_spearman() -> None:
    """Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6; a constant side has none."""
    assert stats.spearman(np.array([1.0, 2, 3, 4]), np.array([20.0, 10, 40, 30])) == pytest.approx(0.6)
    assert stats.spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None


def test_draws_depend_on_id_and_seed_only() -> None:
    ids = pl.Series([f"{n:08x}-0000-4000-8000-{n * 7919:012x}" for n in range(20_000)])
    drawn = stats.draws(ids, 1)
    assert stats.draws(ids.reverse(), 1)[::-1].tolist() == drawn.tolist()
    assert abs(np.corrcoef(drawn, stats.draws(ids, 2))[0, 1]) < 0.03
    assert np.histogram(drawn, bins=10, range=(0, 1))[0] == pytest.approx(2000, rel=0.1)
    assert drawn[0] == pytest.approx(0.7181675614893255, abs=0), "another platform or version must draw the same"
