"""Statistical rejection sampling: acceptance probabilities, disjoint pairs, tournaments, the same draw again."""

from __future__ import annotations

import itertools
import math
import uuid
from collections import Counter
from typing import Any

import polars as pl
import pytest

from prefdata.core.errors import PrefdataError
from prefdata.pairing.rso import rso


def candidates(scores: list[float | None], prompts: int = 1, texts: list[int] | None = None) -> pl.DataFrame:
    """The same scores for every prompt; response k of prompt p has an id that says so."""
    cells = list(itertools.product(range(prompts), range(len(scores))))
    made = {
        "prompt_id": [str(uuid.UUID(int=p + 1)) for p, _ in cells],
        "response_id": [name(p, k) for p, k in cells],
        "score": [scores[k] for _, k in cells],
        "text_hash": [(texts or range(len(scores)))[k] for _, k in cells],
    }
    return pl.DataFrame(made, schema_overrides={"score": pl.Float64})


def name(prompt: int, k: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{prompt}/{k}"))


def met(rows: pl.DataFrame, count: int, prompts: int = 1, **params: Any) -> list[list[tuple[int, int]]]:
    """Per prompt the pairs, as places of the candidates."""
    at = {name(p, k): (p, k) for p in range(prompts) for k in range(count)}
    out: list[list[tuple[int, int]]] = [[] for _ in range(prompts)]
    for first, second in rso(rows, **{"seed": 0, **params}).iter_rows():
        (p, i), (q, j) = at[first], at[second]
        assert p == q
        out[p].append((i, j))
    return out


def test_the_accepted_follow_the_published_probabilities() -> None:
    """Scores 1, 0.5, 0 at beta 0.5, two accepted. The first pass takes 0, then 1 with exp(-1) = .3679, else 2 with exp(-2) = .1353; where
    it took neither, the second pass takes 1, the best left. So {0, 2} comes with (1 - .3679) x .1353 = .0855, {0, 1} otherwise."""
    prompts = 20_000
    pairs = met(candidates([1.0, 0.5, 0.0], prompts), 3, prompts, accept=2, beta=0.5)
    counts = Counter(tuple(sorted(pair[0])) for pair in pairs)
    assert all(len(pair) == 1 for pair in pairs)
    assert set(counts) == {(0, 1), (0, 2)}
    expected = (1 - math.exp(-1)) * math.exp(-2)
    assert abs(counts[0, 2] / prompts - expected) < 4 * math.sqrt(expected * (1 - expected) / prompts)


def test_candidates_are_tried_in_their_order() -> None:
    """With the best last the first pass takes 0 with .1353, 1 with .3679, 2 always, and ends at two. {0, 1}: .1353 x .3679 = .0498.

    {0, 2}: .1353 x .6321 at once; or 2 alone (.8647 x .6321), and then, with 0.5 the best left, 0 with .3679: .0855 + .2011.
    """
    prompts = 20_000
    counts = Counter(tuple(sorted(p[0])) for p in met(candidates([0.0, 0.5, 1.0], prompts), 3, prompts, accept=2, beta=0.5))
    near, far = math.exp(-1), math.exp(-2)
    for pair, share in (((0, 1), far * near), ((0, 2), far * (1 - near) + (1 - far) * (1 - near) * near)):
        assert abs(counts[pair] / prompts - share) < 4 * math.sqrt(share * (1 - share) / prompts), pair


@pytest.mark.parametrize(("beta", "accepted"), [(1e-6, (1, 3)), (1e9, (0, 1))])
def test_a_small_beta_takes_the_best_and_a_large_one_whatever_comes(beta: float, accepted: tuple[int, int]) -> None:
    pairs = met(candidates([0.0, 3.0, 1.0, 2.0], 500), 4, 500, accept=2, beta=beta)
    assert {tuple(sorted(pair[0])) for pair in pairs} == {accepted}


@pytest.mark.parametrize("accept", [2, 3, 5, 8])
def test_first_round_pairs_are_disjoint(accept: int) -> None:
    for pairs in met(candidates([float(k) for k in range(12)], 50), 12, 50, accept=accept, beta=3.0):
        places = [place for pair in pairs for place in pair]
        assert len(pairs) == accept // 2
        assert len(set(places)) == len(places)


@pytest.mark.parametrize("accept", [2, 3, 5, 8])
def test_a_tournament_plays_one_game_less_than_it_has_entrants(accept: int) -> None:
    """Whoever lost once plays no more, and only the best entrant never loses."""
    for pairs in met(candidates([float(k) for k in range(12)], 50), 12, 50, accept=accept, beta=3.0, form="tournament"):
        losers = [min(pair) for pair in pairs]
        entrants = {place for pair in pairs for place in pair}
        assert len(pairs) == accept - 1
        assert len(entrants) == accept
        assert sorted(losers) == sorted(entrants - {max(entrants)})


def test_who_has_no_score_is_no_candidate_and_fewer_candidates_are_all_accepted() -> None:
    (pairs,) = met(candidates([None, 1.0, 2.0, None, 3.0]), 5, accept=8)
    assert len(pairs) == 1
    assert {place for pair in pairs for place in pair} < {1, 2, 4}
    assert met(candidates([1.0, None]), 2) == [[]]
    assert rso(candidates([]), 0).columns == ["first", "second"]


def test_the_same_text_makes_no_pair_but_its_winner_goes_on() -> None:
    """Three candidates, two of one text: whatever meets first, no pair holds that text twice."""
    for seed in range(20):
        (pairs,) = met(candidates([1.0, 1.0, 0.0], texts=[7, 7, 8]), 3, accept=3, form="tournament", seed=seed)
        assert (0, 1) not in [tuple(sorted(pair)) for pair in pairs]
        assert pairs


def test_a_prompt_draws_the_same_beside_others_and_another_seed_draws_otherwise() -> None:
    scores: list[float | None] = [float(k) for k in range(10)]
    alone = met(candidates(scores), 10, accept=4, beta=2.0)[0]
    many = met(candidates(scores, 30), 10, 30, accept=4, beta=2.0)
    assert many[0] == alone
    assert many == met(candidates(scores, 30), 10, 30, accept=4, beta=2.0)
    assert many != met(candidates(scores, 30), 10, 30, accept=4, beta=2.0, seed=1)


@pytest.mark.parametrize("params", [{"accept": 1}, {"beta": 0.0}, {"beta": math.inf}, {"beta": math.nan}])
def test_bad_values_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(PrefdataError, match=r"pairing/rso: (accept|beta) is .*; allowed"):
        rso(candidates([1.0, 2.0]), 0, **params)
