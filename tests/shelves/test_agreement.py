"""Agreement, habits and calibration: against definitions, textbook examples and plain loops."""

from __future__ import annotations

import json
import math
import random as dice
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core import agreement, calibration, habits, stats
from prefdata.core.errors import PrefdataError

PEERS: dict[str, Any] = json.loads((Path(__file__).parent / "aggregate_peers.json").read_text(encoding="utf-8"))
FLEISS = np.array(
    [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0], [3, 2, 6, 3, 0],
     [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]], dtype=float)  # fmt: skip
"""Ten subjects, fourteen raters, five categories: the usual worked example of Fleiss' kappa."""


def test_fleiss_kappa_of_the_worked_example() -> None:
    """Mean agreement 0.378, by chance 0.213: kappa = (0.378 - 0.213) / (1 - 0.213) = 0.210."""
    assert agreement.fleiss_kappa(FLEISS) == pytest.approx(0.20993, abs=5e-6)


def test_kappas_without_a_value() -> None:
    assert agreement.fleiss_kappa(np.array([[3.0, 0], [2, 0]])) is None
    assert agreement.fleiss_kappa(np.array([[1.0, 0], [0, 1]])) is None
    assert agreement.fleiss_kappa(np.zeros((0, 2))) is None
    assert agreement.raw_agreement(np.array([[1.0, 0], [0, 1]])) is None
    assert agreement.alpha_interval(np.array([[2.0, 0], [2, 0]])) is None
    assert agreement.fleiss_interval(np.zeros((3, 2))) is None
    assert agreement.cohen_interval(np.diag([3.0, 0])) is None


def test_weighted_kappa() -> None:
    """Distances 0 1 2: seen (1 + 1 + 2) / 10 = 0.4; by chance sum of p_i q_j |i - j| with p = q = (.4, .3, .3):
    2 (.12 + .09 + 2 x .12) = 0.9. Squared: seen (1 + 1 + 4) / 10 = 0.6, chance 2 (.12 + .09 + 4 x .12) = 1.38."""
    table = np.array([[3.0, 1, 0], [0, 2, 1], [1, 0, 2]])
    assert stats.cohen_kappa(table, "linear") == pytest.approx(1 - 0.4 / 0.9)
    assert stats.cohen_kappa(table, "quadratic") == pytest.approx(1 - 0.6 / 1.38)
    assert stats.cohen_kappa(table) == pytest.approx((0.7 - 0.34) / 0.66)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_krippendorffs_package(level: Any) -> None:
    """krippendorff 0.9.0 on the frozen votes, a b t as 0 1 2."""
    parts = [line.split() for line in PEERS["votes"]]
    units, values = np.array([int(p) for p, _, _ in parts]), np.array(["abt".index(s) for _, _, s in parts])
    counts = agreement.count_table(units, values, 60, 3)
    assert stats.krippendorff_alpha(counts, level) == pytest.approx(PEERS[f"alpha_{level}"], abs=1e-9)


def drawn(seed: int, units: int, raters: int, values: int, noise: float) -> np.ndarray:
    source = dice.Random(seed)
    rows = []
    for _ in range(units):
        true = source.randrange(values)
        rows.append(Counter(source.randrange(values) if source.random() < noise else true for _ in range(raters)))
    return np.array([[row[v] for v in range(values)] for row in rows], dtype=float)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_interval_is_that_of_the_plain_bootstrap(level: Any) -> None:
    counts = drawn(1, 80, 4, 3, 0.5)
    fast = agreement.alpha_interval(counts, level, resamples=4000, seed=1)
    assert fast is not None
    rng = np.random.default_rng(2)
    plain = [stats.krippendorff_alpha(counts[rng.integers(0, 80, 80)], level) for _ in range(4000)]
    low, high = np.quantile([x for x in plain if x is not None], [0.025, 0.975])
    assert fast.value == stats.krippendorff_alpha(counts, level)
    assert (fast.low, fast.high) == pytest.approx((low, high), abs=0.012)
    assert fast.defined == 1


def test_kappa_intervals_are_those_of_the_plain_bootstrap() -> None:
    counts = drawn(3, 90, 5, 3, 0.6)
    rng = np.random.default_rng(0)
    fast = agreement.fleiss_interval(counts, resamples=4000)
    plain = [agreement.fleiss_kappa(counts[rng.integers(0, 90, 90)]) or 0.0 for _ in range(4000)]
    assert fast is not None
    assert (fast.low, fast.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.012)
    table = np.array([[30.0, 6, 1], [4, 20, 5], [2, 3, 25]])
    cells = rng.multinomial(96, table.ravel() / 96, size=4000).reshape(-1, 3, 3)
    slow = [stats.cohen_kappa(cell, "quadratic") or 0.0 for cell in cells]
    quick = agreement.cohen_interval(table, "quadratic", resamples=4000)
    assert quick is not None
    assert (quick.low, quick.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.012)


def test_alpha_interval_covers() -> None:
    """Two raters, P(same) known: in 200 simulated sets the 90 % interval holds the alpha of a set a hundred times as large in most."""
    truth = stats.krippendorff_alpha(drawn(99, 40_000, 2, 2, 0.5))
    inside = 0
    for seed in range(200):
        found = agreement.alpha_interval(drawn(seed, 100, 2, 2, 0.5), coverage=0.9, resamples=500, seed=seed)
        inside += found is not None and truth is not None and found.low <= truth <= found.high
    assert 0.83 <= inside / 200 <= 0.96


def test_wide_tables_and_bad_options() -> None:
    counts = np.random.default_rng(0).integers(0, 60, (30, 40)).astype(float)
    rows, many = agreement.patterns(np.concatenate([counts, counts[:10]]))
    assert (len(rows), many.sum()) == (30, 40)
    with pytest.raises(PrefdataError, match="coverage"):
        agreement.alpha_interval(FLEISS, coverage=1.0)


votes_drawn = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["u", "v", "w", "é"]), st.integers(0, 2)), max_size=24, unique_by=lambda v: v[:2]
)


@settings(max_examples=60, deadline=None)
@given(votes=votes_drawn)
def test_the_matrix_of_annotators_is_that_of_the_loop(votes: list[tuple[int, str, int]]) -> None:
    unit, said = np.array([v[0] for v in votes], dtype=np.int64), np.array([v[2] for v in votes], dtype=np.int64)
    got = agreement.between(unit, pl.Series("who", [v[1] for v in votes], dtype=pl.String), said, 3)
    given = {(u, w): s for u, w, s in votes}
    wanted = {}
    for x, y in combinations(sorted({v[1] for v in votes}), 2):
        common = [(given[u, x], given[u, y]) for u in range(5) if (u, x) in given and (u, y) in given]
        if common:
            table = np.zeros((3, 3))
            for a, b in common:
                table[a, b] += 1
            wanted[frozenset((x, y))] = (len(common), sum(a == b for a, b in common), stats.cohen_kappa(table))
    found = {frozenset((r["first"], r["second"])): r for r in got.iter_rows(named=True)}
    assert set(found) == set(wanted)
    for key, (common, same, kappa) in wanted.items():
        row = found[key]
        assert (row["common"], row["same"], row["share"]) == (common, same, same / common)
        assert (row["low"], row["high"]) == pytest.approx(stats.wilson(same, common))
        assert row["kappa"] == (None if kappa is None else pytest.approx(kappa))


def test_agreement_with_a_reference() -> None:
    """u is right 3 of 4, and as often as not by chance: 0.75, kappa (0.75 - 0.5) / 0.5; v has no vote gold speaks of."""
    who = pl.Series(["u", "u", "u", "u", "u", "v"])
    got = agreement.with_reference(who, np.array([0, 0, 1, 1, 2, 0]), np.array([0, 1, 1, 0 + 1, -1, -1]), 3)
    (row,) = got.iter_rows(named=True)
    assert (row["annotator"], row["votes"], row["hits"], row["share"]) == ("u", 4, 3, 0.75)
    assert (row["low"], row["high"]) == pytest.approx(stats.wilson(3, 4))
    assert row["kappa"] == pytest.approx(stats.cohen_kappa(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])))


def test_position_bias_length_bias_and_flips() -> None:
    votes = pl.DataFrame(
        {
            "id": ["p1", "p1", "p2", "p2", "p3", "p3", "p4"],
            "annotator_id": ["j"] * 7,
            "choice": ["a", "b", "a", "a", "tie", "a", "b"],
            "shown": ["ab", "ba", "ab", "ba", "ab", "ba", None],
            "a_chars": [5, 5, 5, 5, 9, 9, 3],
            "b_chars": [2, 2, 5, 5, 1, 1, 4],
        }
    )
    (place,) = habits.position_bias(votes).iter_rows(named=True)
    assert (place["votes"], place["hits"]) == (5, 3), "first place: p1 in both orders, p2 once; p3's tie and p4's order say nothing"
    (length,) = habits.length_bias(votes).iter_rows(named=True)
    assert (length["votes"], length["hits"]) == (4, 3), "longer: p1 once of two, p3 once, p4; p2 is of one length"
    assert (length["low"], length["high"]) == pytest.approx(stats.wilson(3, 4))
    (flip,) = habits.flips(votes).iter_rows(named=True)
    assert (flip["pairs"], flip["same"], flip["always_first"], flip["always_second"]) == (3, 1, 1, 0)


def test_pace() -> None:
    votes = pl.DataFrame({"annotator_id": ["u"] * 3 + ["v"] * 2, "seconds": [1.0, 2.0, 9.0, None, math.inf]})
    (row,) = habits.pace(votes).iter_rows(named=True)
    assert (row["annotator"], row["votes"], row["median"]) == ("u", 3, 2.0)
    assert (row["p10"], row["p90"]) == pytest.approx((1.2, 7.6))


def test_drift() -> None:
    """u hits in the first six votes and misses in the last six; v alternates. For u lean = -18, spread^2 = 0.25 x 143."""
    hits = [True] * 6 + [False] * 6 + [True, False] * 6
    votes = pl.DataFrame({"annotator_id": ["u"] * 12 + ["v"] * 12, "created": list(range(12)) * 2, "hit": hits})
    whole, windows = habits.drift(votes.sample(fraction=1, shuffle=True, seed=0), windows=3)
    u, v = sorted(whole.iter_rows(named=True), key=lambda row: row["annotator"])
    assert (u["votes"], u["first_half"], u["second_half"]) == (12, 1, 0)
    assert u["z"] == pytest.approx(-18 / math.sqrt(0.25 * 143))
    assert u["p"] == pytest.approx(math.erfc(abs(u["z"]) / math.sqrt(2)))
    assert abs(v["z"]) < 1
    assert windows.filter(pl.col("annotator") == "u")["share"].to_list() == [1, 0.5, 0]
    assert windows["votes"].to_list() == [4] * 6
    always, _ = habits.drift(votes.with_columns(hit=True))
    assert always["z"].to_list() == [None, None]
    assert habits.drift(votes.clear())[0].height == 0
    with pytest.raises(PrefdataError, match="windows is 0"):
        habits.drift(votes, windows=0)


def test_drift_raises_few_false_alarms() -> None:
    rng = np.random.default_rng(0)
    votes = pl.DataFrame(
        {
            "annotator_id": np.repeat([f"w{n}" for n in range(1000)], 40),
            "created": np.tile(np.arange(40), 1000),
            "hit": rng.random(40_000) < 0.7,
        }
    )
    assert 0.03 < (habits.drift(votes)[0]["p"] < 0.05).mean() < 0.07  # type: ignore[operator]


def test_calibration_of_the_worked_example() -> None:
    """p = .9 .8 .6 .4, y = 1 1 0 0, five bins: .4, .6 and .8 go to the lower bin; ECE (.4 + .6 + .2 + .1) / 4."""
    p, y = np.array([0.9, 0.8, 0.6, 0.4]), np.array([1.0, 1, 0, 0])
    found = calibration.calibration(p, y, bins=5)
    assert found is not None
    assert (found.ece, found.ace, found.mce) == pytest.approx((0.325, 0.325, 0.6))
    assert found.bins["count"].to_list() == [1, 1, 1, 1]
    halves = calibration.calibration(p, y, bins=2, edges="quantile")
    assert halves is not None
    assert (halves.ece, halves.bins["count"].to_list()) == (pytest.approx((0.5 + 0.15) / 2), [2, 2])
    assert calibration.calibration(np.array([math.nan]), np.array([1.0])) is None
    with pytest.raises(PrefdataError, match="bins is 0"):
        calibration.calibration(p, y, bins=0)


def test_temperature_undoes_a_stretch() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(size=200_000)
    y = (rng.random(200_000) < 1 / (1 + np.exp(-margin))).astype(float)
    assert calibration.temperature(3 * margin, y) == pytest.approx(3, rel=0.03)
    assert calibration.temperature(margin, y) == pytest.approx(1, rel=0.03)
    assert calibration.temperature(-margin, y) is None
    assert calibration.temperature(np.array([1.0, -2.0]), np.array([1.0, 0.0])) is None
    assert calibration.temperature(np.array([1.0, 1.0, -1.0]), np.array([1.0, 0.0, 0.0])) == pytest.approx(1 / math.log(2))
    assert calibration.temperature(np.zeros(0), np.zeros(0)) is None
