"""Rankings from comparisons: against plain loops, other packages, and the answers that those get silently wrong."""

from __future__ import annotations

import json
import math
import random as dice
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import evalica
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.aggregate.beta_posterior import beta_posterior
from prefdata.aggregate.borda import borda
from prefdata.aggregate.bradley_terry import bradley_terry
from prefdata.aggregate.elo import elo
from prefdata.aggregate.hierarchical import hierarchical
from prefdata.aggregate.plackett_luce import plackett_luce
from prefdata.aggregate.rank_centrality import rank_centrality
from prefdata.aggregate.win_rate import win_rate
from prefdata.core import plackett, ranking, strengths
from prefdata.core.errors import PrefdataError
from prefdata.core.games import Edges, components

PEERS: dict[str, Any] = json.loads((Path(__file__).parent / "aggregate_peers.json").read_text(encoding="utf-8"))
Game = tuple[int, int, float]
"""First item, second item, points of the first."""


def edges(games: list[Game], items: int) -> Edges:
    first, second, points = (np.array(x) for x in zip(*games, strict=True)) if games else (np.zeros(0, dtype=int),) * 3
    won, lost, tied = ((points == value).astype(float) for value in (1.0, 0.0, 0.5))
    return Edges.collect(first, second, won, lost, tied, items)


def pool(games: list[Game]) -> pl.DataFrame:
    """The runner's pool: one pair per game, sides named by item as responses and as models."""
    return pl.DataFrame(
        {
            "id": [f"g{n}" for n in range(len(games))],
            "a_id": [f"r{i}" for i, _, _ in games],
            "b_id": [f"r{j}" for _, j, _ in games],
            "a_model": [f"m{i}" for i, _, _ in games],
            "b_model": [f"m{j}" for _, j, _ in games],
            "n": [1] * len(games),
            "n_a": [int(p == 1) for _, _, p in games],
            "n_b": [int(p == 0) for _, _, p in games],
            "n_tie": [int(p == 0.5) for _, _, p in games],
            "n_both_bad": [0] * len(games),
        },
        schema_overrides=dict.fromkeys(("id", "a_id", "b_id", "a_model", "b_model"), pl.String),
    )


def votes(games: list[Game], who: list[str] | None = None, prompt: list[str] | None = None) -> pl.DataFrame:
    """The runner's votes for the same, one annotator and one prompt unless given."""
    said = {1.0: "a", 0.0: "b", 0.5: "tie"}
    base = pool(games).select("id", "a_id", "b_id", "a_model", "b_model")
    more = {
        "annotator_id": who or ["u"] * len(games),
        "annotator_kind": ["human"] * len(games),
        "prompt_id": prompt or ["p"] * len(games),
        "choice": [said[p] for _, _, p in games],
    }
    return base.hstack(pl.DataFrame(more, schema=dict.fromkeys(more, pl.String)))


def drawn(seed: int, items: int, games: int, ties: float = 0.1) -> list[Game]:
    source = dice.Random(seed)
    out = []
    for _ in range(games):
        i, j = source.sample(range(items), 2)
        draw = source.random()
        out.append((i, j, 0.5 if draw < ties else float(source.random() < 1 / (1 + math.exp((j - i) / 3)))))
    return out


some_games = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0])).filter(lambda g: g[0] != g[1]), max_size=25
)


def of_evalica(function: Any, games: list[Game], items: int, **options: Any) -> np.ndarray:
    import pandas as pd

    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    xs, ys, ws = [g[0] for g in games], [g[1] for g in games], [winner[g[2]] for g in games]
    return function(xs, ys, ws, index=pd.Index(range(items)), **options).scores.sort_index().to_numpy()


def test_elo_of_one_order_is_evalicas() -> None:
    games = drawn(1, 7, 500)
    first, second, points = (np.array(x) for x in zip(*games, strict=True))
    got = ranking.elo(first, second, points, np.arange(500)[None], items=7, k=16, initial=1000, scale=400)
    assert got.mean == pytest.approx(of_evalica(evalica.elo, games, 7, k=16), abs=1e-9)
    assert got.spread.tolist() == [0.0] * 7


@settings(max_examples=50, deadline=None)
@given(games=some_games, orders=st.integers(1, 4))
def test_elo_is_that_of_the_loop(games: list[Game], orders: int) -> None:
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(len(games)) for _ in range(orders)]).astype(np.int64)
    first, second, points = (np.array(x) for x in zip(*games, strict=True)) if games else (np.zeros(0, dtype=int),) * 3
    got = ranking.elo(first, second, points, shuffled, items=6, k=32, initial=1000, scale=400)
    ends = []
    for order in shuffled:
        rating = [1000.0] * 6
        for n in order:
            i, j, won = games[n]
            change = 32 * (won - 1 / (1 + 10 ** ((rating[j] - rating[i]) / 400)))
            rating[i] += change
            rating[j] -= change
        ends.append(rating)
    assert got.mean == pytest.approx(np.mean(ends, axis=0), abs=1e-9)
    assert got.spread == pytest.approx(np.std(ends, axis=0), abs=1e-6)


def test_elo_labels_do_not_hang_on_the_order_of_the_votes() -> None:
    games = drawn(2, 6, 300)
    back = elo(votes(games).reverse(), 5, orders=200).frame.sort("pair_id")
    fore = elo(votes(games), 5, orders=200).frame.sort("pair_id")
    assert abs(back["p_a"] - fore["p_a"]).max() < 0.01
    rows = elo(votes(games), 5).detail["models"]
    assert [row["rating"] for row in rows] == sorted((row["rating"] for row in rows), reverse=True)
    assert all(row["spread"] > 0 for row in rows)


def test_win_rate_is_evalicas() -> None:
    games = drawn(3, 8, 200)
    assert ranking.win_rates(edges(games, 8)) == pytest.approx(of_evalica(evalica.average_win_rate, games, 8), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(games=some_games)
def test_win_rate_borda_and_circles_are_those_of_the_loop(games: list[Game]) -> None:
    share: dict[tuple[int, int], list[float]] = {}
    for i, j, p in games:
        share.setdefault((i, j), []).append(p)
        share.setdefault((j, i), []).append(1 - p)
    rate = {}
    for i in range(6):
        against = [np.mean(p) for (x, _), p in share.items() if x == i]
        rate[i] = np.mean(against) if against else math.nan
    assert ranking.win_rates(edges(games, 6)) == pytest.approx(np.array([rate[i] for i in range(6)]), nan_ok=True)
    ballot = np.array([n % 3 for n in range(len(games))])
    each: dict[int, list[float]] = {i: [] for i in range(6)}
    for b in range(3):
        mine = [g for n, g in enumerate(games) if n % 3 == b]
        for item in range(6):
            points = [p if i == item else 1 - p for i, j, p in mine if item in (i, j)]
            each[item] += [float(np.mean(points))] if points else []
    first, second, points = (np.array(x) for x in zip(*games, strict=True)) if games else (np.zeros(0, dtype=int),) * 3
    got = ranking.borda(ballot.astype(np.int64), first, second, points, 6)
    assert got == pytest.approx(np.array([np.mean(each[i]) if each[i] else math.nan for i in range(6)]), nan_ok=True)
    lead = {pair: sum(p) * 2 - len(p) for pair, p in share.items()}
    whole = [t for t in combinations(range(6), 3) if all(pair in lead for pair in permutations(t, 2))]
    round_ = [(x, y, z) for x, y, z in whole for a, b, c in ((x, y, z), (x, z, y)) if lead[a, b] > 0 and lead[b, c] > 0 and lead[c, a] > 0]
    assert ranking.circles(edges(games, 6)) == (len(round_), len(whole))


def test_circles_of_many_prompts_are_counted_at_once() -> None:
    """100 prompts with a circle of three and 50 with an order of four."""
    games: list[Game] = []
    for n in range(100):
        games += [(3 * n, 3 * n + 1, 1.0), (3 * n + 1, 3 * n + 2, 1.0), (3 * n + 2, 3 * n, 1.0)]
    for n in range(50):
        games += [(300 + 4 * n + i, 300 + 4 * n + j, 1.0) for i, j in combinations(range(4), 2)]
    assert ranking.circles(edges(games, 500)) == (100, 100 + 50 * 4)
    detail = win_rate(pool(games)).detail
    assert (detail["circular_triples"], detail["triples"]) == (100, 300)


def test_rank_centrality_is_choix() -> None:
    games = [(i, j, 1.0) for i, j in PEERS["games"]]
    assert ranking.rank_centrality(edges(games, 8), 0.0) == pytest.approx(np.array(PEERS["choix_rank_centrality"]), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(games=some_games.filter(bool))
def test_rank_centrality_is_where_the_walk_ends(games: list[Game]) -> None:
    """Against the walk itself, squared until it no longer moves."""
    e = edges(games, 6)
    got = ranking.rank_centrality(e, 0.5)
    rate = np.zeros((6, 6))
    for i, j, won, lost, tied in zip(e.i, e.j, e.wins, e.losses, e.ties, strict=True):
        rate[j, i], rate[i, j] = (won + tied / 2 + 0.5) / (won + lost + tied + 1), (lost + tied / 2 + 0.5) / (won + lost + tied + 1)
    step = rate / 6
    step += np.diag(1 - step.sum(axis=1))
    end = np.linalg.matrix_power(step, 2**20)
    for item in range(6):
        same = e.component == e.component[item]
        share = np.log(end[item][same])
        assert got[same] == pytest.approx(share - share.mean(), abs=1e-6)


def test_plackett_luce_is_choix() -> None:
    """Whole rankings of two to five of eight items, each an annotator's ballot on a prompt."""
    games, who = [], []
    for n, ranked in enumerate(PEERS["rankings"]):
        for i, j in combinations(ranked, 2):
            flip = (i + j + n) % 2
            games.append((j, i, 0.0) if flip else (i, j, 1.0))
            who.append(f"u{n}")
    order = dice.Random(0).sample(range(len(games)), len(games))
    frame = votes([games[n] for n in order], [who[n] for n in order])
    got = plackett_luce(frame, level="model", l2=1e-9)
    assert got.detail["rankings"] == sum(len(ranked) > 2 for ranked in PEERS["rankings"])
    assert got.detail["votes_as_pairs"] == sum(len(ranked) == 2 for ranked in PEERS["rankings"])
    found = {row["model"]: row["strength"] for row in got.detail["models"]}
    assert [found[f"m{n}"] for n in range(8)] == pytest.approx(PEERS["choix_ilsr_rankings"], abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(orders=st.lists(st.permutations(range(4)).map(lambda p: p[:3]), min_size=1, max_size=6), l2=st.sampled_from([0.01, 0.3]))
def test_no_step_away_from_plackett_luce_is_better(orders: list[list[int]], l2: float) -> None:
    none = edges([], 4)
    got = plackett.plackett_luce(
        [np.array(orders)], none, components(*np.array([(o[0], o[k]) for o in orders for k in (1, 2)]).T, 4), l2=l2
    )

    def likelihood(s: np.ndarray) -> float:
        total = -l2 / 2 * float(s @ s)
        for order in orders:
            total += sum(s[i] - math.log(sum(math.exp(s[j]) for j in order[k:])) for k, i in enumerate(order))
        return total

    best = likelihood(got)
    for item in range(4):
        for step in (-1e-3, 1e-3):
            moved = got.copy()
            moved[item] += step
            assert likelihood(moved) <= best + 1e-9


def test_ballots_that_are_no_rankings_count_as_pairs() -> None:
    """A tie, a circle, a missing pair and a pair judged twice: none of the four is a ranking."""
    tied, circle = [(0, 1, 1.0), (1, 2, 0.5), (0, 2, 1.0)], [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)]
    missing, twice = [(0, 1, 1.0), (1, 2, 1.0)], [(0, 1, 1.0), (0, 1, 1.0), (1, 2, 1.0)]
    games = tied + circle + missing + twice
    who = ["tied"] * 3 + ["circle"] * 3 + ["missing"] * 2 + ["twice"] * 3
    detail = plackett_luce(votes(games, who)).detail
    assert (detail["rankings"], detail["votes_as_pairs"]) == (0, 11)
    whole = plackett_luce(votes([*games, (0, 1, 1.0), (2, 1, 0.0), (0, 2, 1.0)], [*who, "w", "w", "w"])).detail
    assert (whole["rankings"], whole["votes_as_pairs"]) == (1, 11)


def test_pairs_only_is_bradley_terry() -> None:
    games = drawn(4, 6, 60)
    who = [f"u{n}" for n in range(60)]
    one = plackett_luce(votes(games, who), level="model").frame.sort("pair_id")
    other = bradley_terry(pool(games), level="model", ties="half").frame.sort("pair_id")
    assert one["p_a"].to_numpy() == pytest.approx(other["p_a"].to_numpy(), abs=1e-6)


SCORED = {
    "bradley_terry": lambda games: bradley_terry(pool(games), level="model"),
    "win_rate": lambda games: win_rate(pool(games), level="model"),
    "rank_centrality": lambda games: rank_centrality(pool(games), level="model"),
    "elo": lambda games: elo(votes(games), 0),
    "borda": lambda games: borda(votes(games), level="model"),
    "plackett_luce": lambda games: plackett_luce(votes(games), level="model"),
}


@pytest.mark.parametrize("method", SCORED)
def test_an_item_that_never_wins_spoils_nobody(method: str) -> None:
    """evalica 0.4.2 gives every item 1e-6 here; the others must keep their order, and the loser come last, and be named."""
    fair = [(i, j, float(n < won)) for i, j, won in ((0, 1, 6), (1, 2, 5), (0, 2, 7)) for n in range(9)]
    games = [*fair, *[(0, 3, 1.0), (1, 3, 1.0), (2, 3, 1.0)] * 2]
    got = SCORED[method](games)
    score = {"elo": "rating", "win_rate": "win_rate", "rank_centrality": "log_share", "borda": "score"}.get(method, "strength")
    assert [row["model"] for row in got.detail["models"]] == ["m0", "m1", "m2", "m3"]
    assert all(math.isfinite(row[score]) for row in got.detail["models"])
    assert len({row[score] for row in got.detail["models"]}) == 4
    assert any("lost every comparison: m3" in line for line in got.detail["notes"])
    assert got.frame["p_a"].is_finite().all()


@pytest.mark.parametrize("method", SCORED)
def test_a_tie_is_no_item(method: str) -> None:
    """crowd-kit 1.4.2 makes an item called "tie" of a tied comparison, and NaN of everybody."""
    got = SCORED[method](drawn(5, 5, 80, ties=0.4))
    assert {row["model"] for row in got.detail["models"]} == {f"m{n}" for n in range(5)}
    assert sum(row["ties"] for row in got.detail["models"]) > 0
    assert got.frame["p_a"].is_finite().all()


def test_bradley_terry_runs_to_the_end() -> None:
    """crowd-kit 1.4.2 stops after two rounds for every tolerance above 0; choix's maximum is the maximum."""
    games = [(i, j, 1.0) for i, j in PEERS["games"]]
    e = edges(games, 8)
    model = strengths.fit_edges(e, ties_as="half", l2=0)
    assert model.strength == pytest.approx(np.array(PEERS["choix_mm_pairwise"]), abs=1e-6)
    assert model.rounds > 2


@pytest.mark.parametrize("method", SCORED)
def test_circles_leave_no_winner_by_accident(method: str) -> None:
    """x over y over z over x, each pair once: two lead together everywhere."""
    got = SCORED[method]([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)])
    if method == "elo":  # what is left of the orders is small, and shrinks with their number
        assert got.frame["margin"].max() < 0.01
    else:
        assert got.frame["winner"].to_list() == [None] * 3
        assert any("3 of 3 pairs have no winner" in line for line in got.detail["notes"])


@pytest.mark.parametrize("method", SCORED)
def test_islands_are_said_and_not_compared(method: str) -> None:
    got = SCORED[method]([(0, 1, 1.0), (0, 1, 0.0), (2, 3, 1.0), (2, 3, 0.5)])
    assert any("2 groups of models that never met" in line for line in got.detail["notes"])
    if method in ("bradley_terry", "win_rate", "rank_centrality"):
        unmet = pool([(0, 1, 1.0), (2, 3, 1.0), (0, 2, 1.0)]).with_columns(n=pl.Series([1, 1, 0]), n_a=pl.Series([1, 1, 0]))
        run = {"bradley_terry": bradley_terry, "win_rate": win_rate, "rank_centrality": rank_centrality}[method]
        labels = run(unmet, level="model", infer=True).frame  # type: ignore[operator]
        assert labels["winner"].to_list() == ["a", "a", None]
        assert labels["p_a"][2] is None


@pytest.mark.parametrize("method", SCORED)
def test_nothing_to_compare(method: str) -> None:
    got = SCORED[method]([])
    assert got.frame.height == 0
    json.dumps(got.detail, allow_nan=False)


@pytest.mark.parametrize("method", SCORED)
def test_models_without_names_get_no_label(method: str) -> None:
    games = [(0, 1, 1.0), (0, 1, 1.0)]
    run = {
        "bradley_terry": bradley_terry,
        "win_rate": win_rate,
        "rank_centrality": rank_centrality,
        "borda": borda,
        "plackett_luce": plackett_luce,
    }
    rows = (votes if method in ("elo", "borda", "plackett_luce") else pool)(games).with_columns(
        a_model=pl.Series(["m0", None], dtype=pl.String), b_model=pl.Series(["m1", ""])
    )
    got = elo(rows, 0) if method == "elo" else run[method](rows, level="model")  # type: ignore[operator]
    assert got.frame.sort("pair_id")["winner"].to_list() == ["a", None]
    assert any("1 voted pairs have no label" in line for line in got.detail["notes"])


def test_standard_errors_are_those_of_the_likelihood() -> None:
    """Without a ridge, two items, 30 to 10: the log-odds' variance is 1/30 + 1/10, and each strength is half of it."""
    e = edges([(0, 1, 1.0)] * 30 + [(0, 1, 0.0)] * 10, 2)
    model = strengths.fit_edges(e, ties_as="half", l2=0)
    wanted = math.sqrt(1 / 30 + 1 / 10) / 2
    assert strengths.errors(e, model, "half", 0) == pytest.approx([wanted, wanted])
    ridge = strengths.fit_edges(e, ties_as="half", l2=1e-6)
    assert strengths.errors(e, ridge, "half", 1e-6) == pytest.approx([wanted, wanted], rel=1e-6)
    islands = edges([(0, 1, 1.0)] * 30 + [(0, 1, 0.0)] * 10 + [(3, 4, 1.0), (3, 4, 0.0)], 5)
    found = strengths.errors(islands, strengths.fit_edges(islands, ties_as="half", l2=0.1), "half", 0.1)
    assert np.isnan(found).tolist() == [False, False, True, False, False]
    assert found[3] == pytest.approx(math.sqrt(1 / (2 * (0.1 + 2 * 0.5))), rel=1e-6), "P = 1/2: curvature 2 x 1/4 along (1, -1)"


def test_standard_errors_cover() -> None:
    """Of 200 simulated tournaments, strengths lie within 1.96 errors of the truth in about 95 %."""
    rng = np.random.default_rng(1)
    truth = np.array([-1.0, -0.3, 0.2, 1.1])
    inside = []
    for _ in range(200):
        games = []
        for i, j in combinations(range(4), 2):
            won = rng.binomial(50, 1 / (1 + math.exp(truth[j] - truth[i])))
            games += [(i, j, 1.0)] * won + [(i, j, 0.0)] * (50 - won)
        e = edges(games, 4)
        model = strengths.fit_edges(e, ties_as="half", l2=0)
        inside.append(np.abs(model.strength - truth) <= 1.96 * strengths.errors(e, model, "half", 0))
    assert 0.92 < np.mean(inside) < 0.975


def test_all_ties_have_no_strengths_and_say_so() -> None:
    got = bradley_terry(pool([(0, 1, 0.5)] * 3), level="model")
    assert got.frame["winner"].to_list() == ["tie"] * 3
    assert "all votes are ties: P(tie) is 1." in got.detail["notes"]
    assert got.detail["tie_parameter"] is None
    json.dumps(got.detail, allow_nan=False)


def counts(a: int, b: int, tie: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"id": ["p"], "row": [0], "n": [a + b + tie], "n_a": [a], "n_b": [b], "n_tie": [tie], "n_both_bad": [0]})


def test_beta_posterior_grows_sure_slowly() -> None:
    """k votes of k: P(p > 1/2) = 1 - 2^-(k + 1), never 1."""
    for k in range(1, 40):
        assert beta_posterior(counts(k, 0)).frame["confidence"][0] == pytest.approx(1 - 0.5 ** (k + 1), abs=1e-12)
    assert beta_posterior(counts(0, 0, 4)).frame["winner"][0] is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: beta_posterior(counts(1, 0), prior_a=0), "prior_a is 0"),
        (lambda: beta_posterior(counts(1, 0), sure=1.2), "sure is 1.2.* 0.5 to 1"),
        (lambda: rank_centrality(pool([]), prior=0), "prior is 0.* above 0"),
        (lambda: plackett_luce(votes([]), l2=0), "l2 is 0"),
        (lambda: elo(votes([]), 0, orders=0), "orders is 0"),
        (lambda: hierarchical(pool([]), features=[]), "features is .*at least one name"),
        (lambda: hierarchical(pool([]), features=["votes"], margins=[1, 2]), "margins is .*one number from 0, or 1 of them"),
        (lambda: hierarchical(pool([]), features=["votes"], margins=[-1]), "margins is"),
        (lambda: hierarchical(pool([]).with_columns(a_x=pl.lit("t"), b_x=pl.lit("t")), features=["x"]), "numbers of responses"),
    ],
)
def test_bad_parameters(call: Any, words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        call()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.one_of(st.none(), st.integers(-2, 2))] * 2, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8),
    margin=st.sampled_from([0.0, 1.0]),
    unknown=st.sampled_from(["stop", "skip"]),
)
def test_hierarchical_is_that_of_the_loop(rows: list[tuple[Any, ...]], margin: float, unknown: Any) -> None:
    """Feature x (higher is better), then y (lower is better), then votes."""
    frame = pl.DataFrame(
        {
            "id": [f"p{n}" for n in range(len(rows))],
            **{"a_x": [r[0] for r in rows], "b_x": [0] * len(rows), "a_y": [r[1] for r in rows], "b_y": [0] * len(rows)},
            **{"n": [r[2] + r[3] for r in rows], "n_a": [r[2] for r in rows], "n_b": [r[3] for r in rows], "n_tie": 0, "n_both_bad": 0},
        }
    )
    got = hierarchical(frame, features=["x", "-y", "votes"], margins=[margin, 0, 0], unknown=unknown)
    wanted = []
    for x, y, a, b in rows:
        leads = [(x, margin), (None if y is None else -y, 0), ((a - b) / (a + b) if a + b else None, 0)]
        end: str | None = None
        for lead, limit in leads:
            if lead is None:
                if unknown == "stop":
                    end = None
                    break
                continue
            if abs(lead) > limit:
                end = "a" if lead > 0 else "b"
                break
            end = "tie"
        wanted.append(end)
    assert got.frame["winner"].to_list() == wanted
    assert sum(got.detail["decided_by"].values()) == sum(w in ("a", "b") for w in wanted)
