"""Aggregators that learn about annotators: against plain loops, frozen results of other packages, and at the edges."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.aggregate.dawid_skene import dawid_skene
from prefdata.aggregate.glad import glad
from prefdata.aggregate.mace import mace
from prefdata.aggregate.weighted_vote import weighted_vote
from prefdata.core import crowd
from prefdata.core import glad as glads
from prefdata.core.cast import Cast, codes
from prefdata.core.descent import descend
from prefdata.core.errors import PrefdataError
from prefdata.core.special import beta_above_half, digamma, log_gamma

PEERS: dict[str, Any] = json.loads((Path(__file__).parent / "aggregate_peers.json").read_text(encoding="utf-8"))
"""Votes, comparisons and rankings drawn with Python's `random`, and what crowd-kit 1.4.2, choix 0.4.1 and krippendorff 0.9.0 make of
them, run to convergence (DawidSkene: tol below every gain; GLAD: 120 rounds with m_step_tol 1e-6; MACE: one start, 500 rounds)."""
OUTCOMES = ("a", "b", "tie")
Vote = tuple[int, int, str]


def frame(votes: list[Vote], kinds: dict[int, str] | None = None) -> pl.DataFrame:
    """The runner's votes, from (pair, annotator, choice)."""
    return pl.DataFrame(
        {
            "id": [f"p{p:03}" for p, _, _ in votes],
            "annotator_id": [f"w{w}" for _, w, _ in votes],
            "annotator_kind": [(kinds or {}).get(w, "human") for _, w, _ in votes],
            "choice": [c for _, _, c in votes],
        },
        schema=dict.fromkeys(("id", "annotator_id", "annotator_kind", "choice"), pl.String),
    )


def peer_votes() -> list[Vote]:
    parts = [line.split() for line in PEERS["votes"]]
    return [(int(p), int(w), {"a": "a", "b": "b", "t": "tie"}[s]) for p, w, s in parts]


def chances(labels: pl.DataFrame) -> np.ndarray:
    """(pairs, 3) in the order of the pairs."""
    ordered = labels.sort("pair_id")
    p_a, p_tie = ordered["p_a"].to_numpy(), ordered["p_tie"].to_numpy()
    return np.stack([p_a, 1 - p_a - p_tie, p_tie], axis=1)


def test_dawid_skene_is_crowd_kits() -> None:
    got = dawid_skene(frame(peer_votes()), tolerance=1e-14, limit=5000)
    assert chances(got.frame) == pytest.approx(np.array(PEERS["dawid_skene"]), abs=2e-6)


@pytest.mark.parametrize("bayes", [True, False])
def test_mace_is_crowd_kits(bayes: bool) -> None:
    """crowd-kit's own rows go astray where names do not appear in sorted order; here they do."""
    kind = "vb" if bayes else "em"
    got = mace(frame(peer_votes()), 0, bayes=bayes, restarts=1, tolerance=-1, limit=501)
    assert chances(got.frame) == pytest.approx(np.array(PEERS[f"mace_{kind}"]), abs=2e-6)
    competence = {row["annotator"]: row["competence"] for row in got.detail["annotators"]}
    assert [competence[f"w{n}"] for n in range(9)] == pytest.approx(PEERS[f"competence_{kind}"], abs=2e-6)


def test_mace_does_not_care_for_names() -> None:
    """crowd-kit mixes annotators up where a later one sorts first; here renaming them changes nothing."""
    renamed = frame([(p, 8 - w, c) for p, w, c in peer_votes()])
    one, other = (mace(f, 0, restarts=3) for f in (frame(peer_votes()), renamed))
    assert chances(other.frame) == pytest.approx(chances(one.frame), abs=1e-9)


def test_glad_is_crowd_kits() -> None:
    got = glad(frame(peer_votes()), tolerance=1e-14, limit=5000)
    assert chances(got.frame) == pytest.approx(np.array(PEERS["glad"]), abs=1e-4)
    ability = {row["annotator"]: row["ability"] for row in got.detail["annotators"]}
    assert [ability[f"w{n}"] for n in range(9)] == pytest.approx(PEERS["ability"], abs=1e-4)


def test_weighted_vote_is_wawa() -> None:
    """On pairs where one choice leads: where two do, crowd-kit takes the first one and says nothing."""
    kept = set(PEERS["wawa_pairs"])
    got = weighted_vote(frame([v for v in peer_votes() if v[0] in kept]), leave_own_out=False, prior=0)
    assert chances(got.frame) == pytest.approx(np.array(PEERS["wawa"]), abs=1e-6)
    skill = {row["annotator"]: row["skill"] for row in got.detail["annotators"]}
    assert [skill[f"w{n}"] for n in range(9)] == pytest.approx(PEERS["wawa_skill"], abs=1e-6)


votes_drawn = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from(["a", "b", "tie"])), min_size=1, max_size=25, unique_by=lambda v: v[:2]
)


def slow_dawid_skene(votes: list[Vote], rounds: int) -> dict[int, dict[str, float]]:
    """The paper's loops, floors as in the fast one."""
    named = sorted({c for _, _, c in votes}, key=OUTCOMES.index)
    pairs, workers = sorted({p for p, _, _ in votes}), sorted({w for _, w, _ in votes})
    of = {p: [(w, c) for q, w, c in votes if q == p] for p in pairs}
    p = {q: {k: sum(c == k for _, c in of[q]) / len(of[q]) for k in named} for q in pairs}
    for _ in range(rounds):
        prior = {k: max(sum(p[q][k] for q in pairs) / len(pairs), 1e-10) for k in named}
        table = {}
        for w, k in product(workers, named):
            counts = {c: max(sum(p[q][k] for q, v, d in votes if v == w and d == c), 1e-10) for c in named}
            for c in named:
                table[w, k, c] = counts[c] / sum(counts.values())
        for q in pairs:
            score = {k: math.log(prior[k]) + sum(math.log(table[w, k, c]) for w, c in of[q]) for k in named}
            top = max(score.values())
            whole = sum(math.exp(s - top) for s in score.values())
            p[q] = {k: math.exp(s - top) / whole for k, s in score.items()}
    return p


@settings(max_examples=50, deadline=None)
@given(votes=votes_drawn, rounds=st.integers(1, 4))
def test_dawid_skene_is_that_of_the_loop(votes: list[Vote], rounds: int) -> None:
    got = dawid_skene(frame(votes), tolerance=-math.inf, limit=rounds).frame
    wanted = slow_dawid_skene(votes, rounds)
    for row in got.iter_rows(named=True):
        mine = wanted[int(row["pair_id"][1:])]
        assert (row["p_a"], row["p_tie"]) == pytest.approx((mine.get("a", 0), mine.get("tie", 0)), abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(votes=votes_drawn)
def test_labels_are_labels(votes: list[Vote]) -> None:
    """Whatever the votes: probabilities, one row a voted pair, winners that lead alone, margins that fit."""
    for got in (dawid_skene(frame(votes)), mace(frame(votes), 1, restarts=2), glad(frame(votes)), weighted_vote(frame(votes))):
        labels = got.frame
        assert sorted(labels["pair_id"]) == sorted({f"p{p:03}" for p, _, _ in votes})
        for row in labels.iter_rows(named=True):
            if row["p_a"] is None:
                assert row["winner"] is None
                continue
            p = {"a": row["p_a"], "b": 1 - row["p_a"] - row["p_tie"], "tie": row["p_tie"]}
            assert all(-1e-9 <= x <= 1 + 1e-9 for x in p.values())
            leaders = [name for name, x in p.items() if x >= max(p.values()) - 1e-9]
            assert row["winner"] == (leaders[0] if len(leaders) == 1 else None)
            assert row["margin"] == pytest.approx(abs(p["a"] - p["b"]), abs=1e-9)
            assert row["confidence"] == pytest.approx(max(p.values()), abs=1e-9)
            assert row["votes"] == sum(f"p{q:03}" == row["pair_id"] for q, _, _ in votes)


@settings(max_examples=30, deadline=None)
@given(votes=votes_drawn, flipped=st.sets(st.integers(0, 4)))
def test_symmetric_does_not_care_which_side_is_a(votes: list[Vote], flipped: set[int]) -> None:
    turned = [(p, w, {"a": "b", "b": "a"}.get(c, c) if p in flipped else c) for p, w, c in votes]
    one, other = (chances(dawid_skene(frame(v), symmetric=True, smoothing=0.1, limit=20).frame) for v in (votes, turned))
    for at, p in enumerate(sorted({p for p, _, _ in votes})):
        assert other[at] == pytest.approx(one[at][[1, 0, 2]] if p in flipped else one[at], abs=1e-7)


def planted(seed: int, pairs: int = 400, skills: tuple[float, ...] = (0.95, 0.9, 0.6, 0.55, 0.4)) -> tuple[list[Vote], list[str]]:
    """Every annotator judges every pair; wrong answers are drawn from the other two."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, pairs)
    right = rng.random((pairs, len(skills))) < np.array(skills)
    said = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, 3, right.shape)) % 3)
    return [(p, w, OUTCOMES[said[p, w]]) for p in range(pairs) for w in range(len(skills))], [OUTCOMES[t] for t in truth]


@pytest.mark.parametrize("method", ["dawid_skene", "mace", "glad", "weighted_vote"])
def test_planted_skills_are_found_and_beat_the_majority(method: str) -> None:
    votes, truth = planted(3)
    run = {
        "dawid_skene": dawid_skene,
        "mace": lambda f: mace(f, 0),
        "glad": glad,
        "weighted_vote": lambda f: weighted_vote(f, scale="log_odds"),
    }
    got = run[method](frame(votes))  # type: ignore[operator]
    winners = got.frame.sort("pair_id")["winner"].to_list()
    majority = Cast.of(frame(votes)).counts
    by_count = [OUTCOMES[c.argmax()] if (c == c.max()).sum() == 1 else None for c in majority]
    hits, plain = (sum(w == t for w, t in zip(x, truth, strict=True)) for x in (winners, by_count))
    assert hits > plain + 20
    name = {"dawid_skene": "accuracy", "mace": "competence", "glad": "ability", "weighted_vote": "skill"}[method]
    learned = {row["annotator"]: row[name] for row in got.detail["annotators"]}
    assert sorted(learned, key=lambda w: -learned[w])[:2] == ["w0", "w1"]
    assert learned["w4"] == min(learned.values())
    if method == "dawid_skene":
        assert [learned[f"w{n}"] for n in range(5)] == pytest.approx((0.95, 0.9, 0.6, 0.55, 0.4), abs=0.07)


def test_gold_teaches() -> None:
    """Three who always agree on the wrong side outvote the one who is right, until gold says so."""
    votes = [(p, w, "b" if w < 3 else "a") for p in range(30) for w in range(4)] + [
        (p, w, "a" if w < 3 else "b") for p in range(30, 60) for w in range(4)
    ]
    gold = [(p, 9, "a" if p < 30 else "b") for p in (*range(8), *range(30, 38))]
    for method in (dawid_skene, glad):
        assert method(frame(votes)).frame.sort("pair_id")["winner"].to_list() == ["b"] * 30 + ["a"] * 30
        taught = method(frame(votes + gold, {9: "gold"}), gold=["gold"])
        assert taught.frame.sort("pair_id")["winner"].to_list() == ["a"] * 30 + ["b"] * 30
        assert taught.frame["votes"].to_list() == [4] * 60, "gold is no vote"
        assert "w9" not in [row["annotator"] for row in taught.detail["annotators"]]


def test_split_gold_is_no_gold() -> None:
    votes = [(0, 1, "a"), (0, 2, "a"), (0, 8, "a"), (0, 9, "b")]
    got = dawid_skene(frame(votes), gold=["w8", "w9"])
    assert got.frame.row(0, named=True)["winner"] == "a"
    assert got.frame["votes"].to_list() == [2]


def test_a_pair_with_gold_alone_has_that_label() -> None:
    for method in (dawid_skene, glad):
        got = method(frame([(0, 1, "a"), (1, 9, "tie"), (2, 1, "b")]), gold=["w9"])
        row = got.frame.sort("pair_id").row(1, named=True)
        assert (row["winner"], row["p_tie"], row["votes"]) == ("tie", pytest.approx(1), 0)


def test_no_votes_no_labels() -> None:
    empty = frame([])
    for got in (dawid_skene(empty), mace(empty, 0), glad(empty), weighted_vote(empty)):
        assert got.frame.height == 0
        assert got.frame.columns == ["pair_id", "p_a", "p_tie", "winner", "margin", "confidence", "votes"]
        json.dumps(got.detail, allow_nan=False)


def test_unanimous_votes_are_sure_and_said() -> None:
    """Everybody says a, on every pair: no other outcome exists, and none is invented."""
    votes = frame([(p, w, "a") for p in range(3) for w in range(3)])
    for got in (dawid_skene(votes), mace(votes, 0), glad(votes), weighted_vote(votes)):
        assert got.frame.select("p_a", "p_tie", "winner").unique().rows() == [(1.0, 0.0, "a")]
        json.dumps(got.detail, allow_nan=False)


def test_single_votes_and_stopping_early_are_said() -> None:
    got = dawid_skene(frame([(0, 1, "a"), (1, 1, "b"), (1, 2, "a"), (1, 3, "a")]), limit=1, tolerance=0)
    assert any("1 of 2 pairs have one vote" in line for line in got.detail["notes"])
    assert any("not settled after 1 rounds" in line for line in got.detail["notes"])


def test_misleading_annotators_are_named() -> None:
    votes = [(p, w, "ab"[(p + (w == 5)) % 2]) for p in range(40) for w in range(6)]
    assert any("w5" in line and "count the other way" in line for line in glad(frame(votes)).detail["notes"])


def test_abstentions_and_null_annotators_are_taken_as_what_they_are() -> None:
    votes = frame([(0, 1, "a"), (0, 2, "abstain"), (0, 3, "both_bad")]).with_columns(annotator_id=pl.Series(["w1", "w2", None]))
    cast = Cast.of(votes)
    assert cast.counts.tolist() == [[1, 0, 1]]
    assert weighted_vote(votes).frame.row(0)[1:3] == (0.5, 0.5)


def test_the_report_lists_the_busiest_thousand() -> None:
    votes = [(p, w, "ab"[p % 2]) for w in range(1100) for p in range(1 + (w >= 100))]
    detail = dawid_skene(frame(votes)).detail
    assert len(detail["annotators"]) == 1000
    assert detail["annotators_left_out"] == 100
    assert {row["votes"] for row in detail["annotators"]} == {2}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: weighted_vote(f, weights={"u": -1}), r"weights\['u'\] is -1.* a number from 0"),
        (lambda f: weighted_vote(f, prior=-1), "prior is -1"),
        (lambda f: dawid_skene(f, smoothing=-0.1), "smoothing is -0.1"),
    ],
)
def test_bad_parameters(call: Any, words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        call(frame([(0, 0, "a")]))


def test_glads_slope_is_the_slope() -> None:
    votes, _ = planted(5, pairs=12)
    model = glads._Model(Cast.of(frame(votes)), np.array([0, -1, 2, *[-1] * 9]))
    x = np.random.default_rng(0).normal(1, 0.5, 5 + 12)
    step = 1e-6
    measured = [(model.slope(x + step * e)[0] - model.slope(x - step * e)[0]) / (2 * step) for e in np.eye(len(x))]
    assert model.slope(x)[1] == pytest.approx(np.array(measured), abs=1e-6)


def test_dawid_skene_never_loses_likelihood() -> None:
    cast = Cast.of(frame(peer_votes()))
    fits = [crowd.dawid_skene(cast, limit=n, tolerance=-math.inf).fit for n in range(1, 40)]
    assert (np.diff(fits) > -1e-12).all()


def test_descend_finds_the_bottom_of_a_bent_valley() -> None:
    """Rosenbrock's function in 10 variables has its minimum 0 at (1, ..., 1)."""

    def slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        off = x[1:] - x[:-1] ** 2
        gradient = np.zeros_like(x)
        gradient[:-1] = -400 * x[:-1] * off - 2 * (1 - x[:-1])
        gradient[1:] += 200 * off
        return float((100 * off**2 + (1 - x[:-1]) ** 2).sum()), gradient

    found = descend(slope, np.full(10, -0.5), tolerance=1e-16, limit=2000)
    assert found.x == pytest.approx(np.ones(10), abs=1e-5)
    assert found.settled


def test_special_functions() -> None:
    """Gamma(1/2)^2 = pi, Gamma(11) = 10!, digamma(1) = -Euler's constant, digamma(x + 1) = digamma(x) + 1/x."""
    assert log_gamma(np.array([0.5, 11.0])) == pytest.approx([math.log(math.pi) / 2, math.log(math.factorial(10))], abs=1e-13)
    assert digamma(np.array([1.0]))[0] == pytest.approx(-0.5772156649015329, abs=1e-13)
    x = np.array([0.1, 0.7, 3.3, 40.0])
    assert digamma(x + 1) == pytest.approx(digamma(x) + 1 / x, abs=1e-12)
    for a, b in product(range(1, 12), repeat=2):  # a sum of binomial coefficients for whole numbers
        wanted = sum(math.comb(a + b - 1, k) for k in range(a)) / 2 ** (a + b - 1)
        assert beta_above_half(np.array([a]), np.array([b]))[0] == pytest.approx(wanted, abs=1e-12)
    assert beta_above_half(np.array([5e4 + 200.0]), np.array([5e4]))[0] == pytest.approx(
        0.5 * math.erfc(-200 / math.sqrt(2 * 1e5) / 1), abs=2e-3
    )


@pytest.mark.parametrize("values", [[], ["x"], ["b", "a", "b"], ["a", "a", "b", "b"], [3, 1, 3, None], ["é", "", "é\n", None]])
def test_codes_number_values_in_their_order(values: list[Any]) -> None:
    number, found = codes(pl.Series("v", values))
    assert [found.to_list()[n] for n in number] == values
    assert found.to_list() == list(dict.fromkeys(values))
