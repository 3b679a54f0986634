"""Groups of annotators and tastes: planted ones are found, absent ones are not, and the worst-off group is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata.aggregate.em_mixture import em_mixture
from prefdata.aggregate.low_rank import low_rank
from prefdata.core import lowrank, tastes
from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch, ingest
from prefdata.core.plural import Ground
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store


def society(
    seed: int, groups: int, people: int = 60, each: int = 40, models: int = 6, spread: float = 2.0
) -> tuple[pl.DataFrame, list[int]]:
    """Votes of `people`, group g of whom draws strengths of its own; and everybody's group. A tenth are ties."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=(groups, models)) * spread
    member = np.arange(people) % groups
    pairs = [(i, j) for i in range(models) for j in range(models) if i < j]
    rows = []
    for who in range(people):
        for n in rng.choice(len(pairs) * 5, each, replace=False):
            i, j = pairs[n % len(pairs)]
            tie = rng.random() < 0.1
            won = rng.random() < 1 / (1 + np.exp(strength[member[who], j] - strength[member[who], i]))
            rows.append((f"p{n:03}", f"m{i}", f"m{j}", f"w{who:02}", "tie" if tie else "a" if won else "b"))
    frame = pl.DataFrame(rows, schema=["id", "a_model", "b_model", "annotator_id", "choice"], orient="row")
    made = frame.with_columns(annotator_kind=pl.lit("human"), a_id=pl.col("id") + "a", b_id=pl.col("id") + "b", prompt_id=pl.col("id"))
    return made, member.tolist()


def purity(detail: Any, member: list[int]) -> float:
    """Share of annotators whose found group is the one that most of their true group are in."""
    found = {row["annotator"]: row["group"] for row in detail["annotators"]}
    pairs = [(member[int(name[1:])], group) for name, group in found.items()]
    best = {true: max(range(9), key=lambda g: pairs.count((true, g))) for true, _ in pairs}
    return sum(best[true] == group for true, group in pairs) / len(pairs)


@pytest.mark.parametrize("assign", ["soft", "hard"])
@pytest.mark.parametrize("many", [2, 3])
def test_planted_groups_are_found(assign: Any, many: int) -> None:
    votes, member = society(many, many)
    detail = em_mixture(votes, 0, many=many, assign=assign).detail
    assert purity(detail, member) == 1
    assert [row["annotators"] for row in detail["groups"]] == [60 // many] * many
    assert detail["held_out_gain"] > 0.05
    assert "notes" not in detail


def test_groups_that_are_not_there_are_not_claimed() -> None:
    """Everybody shares one reward: on hidden votes two groups foresee no better, and the report says so."""
    detail = em_mixture(society(7, 1)[0], 0, many=2).detail
    assert detail["held_out_gain"] < 0.01
    if detail["held_out_gain"] <= 0:
        assert any("no better than one reward" in line for line in detail["notes"])


def test_tastes_are_found_and_none_is_worse_off_unseen() -> None:
    votes, member = society(11, 2, people=60)
    got = low_rank(votes, 0, rank=2)
    assert purity(got.detail, member) == 1
    assert got.detail["held_out_gain"] > 0.05
    taste = np.array([[row["taste_0"], row["taste_1"]] for row in got.detail["annotators"]])
    assert taste.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    accuracy = [row["accuracy"] for row in sorted(got.detail["groups"], key=lambda row: row["group"])]
    assert got.detail["worst_group"] == int(np.argmin(accuracy))


def test_maxmin_protects_the_minority() -> None:
    """Eight say m with certainty, two say n: the mean is for m, the middle of the range for neither; where all like m, both are."""
    rows = [(f"p{k}", "m", "n", f"w{w}", "a" if w < 8 else "b") for k in range(6) for w in range(10)]
    rows += [(f"q{k}", "m", "o", f"w{w}", "a") for k in range(6) for w in range(10)]
    votes = pl.DataFrame(rows, schema=["id", "a_model", "b_model", "annotator_id", "choice"], orient="row").with_columns(
        annotator_kind=pl.lit("human")
    )
    for run in (
        lambda welfare: em_mixture(votes, 0, welfare=welfare, held_out_share=0),
        lambda welfare: low_rank(votes, 0, welfare=welfare, held_out_share=0),
    ):
        mean, fair = ({row["pair_id"]: row for row in run(w).frame.iter_rows(named=True)} for w in ("mean", "maxmin"))
        assert mean["p0"]["winner"] == fair["q0"]["winner"] == mean["q0"]["winner"] == "a"
        assert mean["p0"]["p_a"] > 0.7
        assert abs(fair["p0"]["p_a"] - 0.5) < 0.1
        assert fair["p0"]["confidence"] < 0.3, "the worst-off group does not like the winner"
        assert fair["q0"]["confidence"] > 0.6


def test_a_group_too_small_has_no_veto() -> None:
    """Two of twenty answer against all others: maxmin lets them stop every winner, unless groups below 15 % have no part."""
    rows = [(f"p{k}", "m", "n", f"w{w:02}", "a" if w < 18 else "b") for k in range(10) for w in range(20)]
    votes = pl.DataFrame(rows, schema=["id", "a_model", "b_model", "annotator_id", "choice"], orient="row").with_columns(
        annotator_kind=pl.lit("human")
    )
    stopped, free = (em_mixture(votes, 0, assign="hard", least_share=share, held_out_share=0) for share in (0.0, 0.15))
    assert [row["annotators"] for row in stopped.detail["groups"]] == [18, 2]
    assert stopped.frame["confidence"].max() < 0.5
    assert free.frame["confidence"].min() > 0.9
    assert free.frame["winner"].unique().to_list() == ["a"]


def test_features_are_weighed() -> None:
    """Half of the annotators like long answers, half short ones; models are not named. Features of unlike scale weigh alike."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(200):
        a, b = rng.integers(10, 1000, 2).tolist()
        for w in range(8):
            longer = (a > b) == (rng.random() < 0.9)
            rows.append((f"p{n}", f"w{w}", "a" if longer == (w < 4) else "b", a, b, rng.random(), rng.random()))
    names = ["id", "annotator_id", "choice", "a_chars", "b_chars", "a_noise", "b_noise"]
    votes = pl.DataFrame(rows, schema=names, orient="row").with_columns(annotator_kind=pl.lit("human"))
    for run in (em_mixture, low_rank):
        detail = run(votes, 0, features=["chars", "noise"]).detail  # type: ignore[operator]
        groups = {row["annotator"]: row["group"] for row in detail["annotators"]}
        assert len({groups[f"w{w}"] for w in range(4)}) == 1
        assert groups["w0"] != groups["w7"]
        likes = {row["group"]: (row["likes"], row["dislikes"]) for row in detail["groups"]}
        assert likes[groups["w0"]] == ("chars", "noise")
        assert likes[groups["w7"]] == ("noise", "chars")
    turned = em_mixture(votes, 0, many=1, features=["-chars"]).frame
    plain = em_mixture(votes, 0, many=1, features=["chars"]).frame
    assert turned["p_a"].to_numpy() == pytest.approx(plain["p_a"].to_numpy(), abs=1e-6), "a weight is learned either way"


def test_features_come_from_the_store(tmp_path: Path) -> None:
    """chars is a column, length_words a signal of an earlier step; an unknown name is refused with the nearest one."""
    store = Store(tmp_path / "s.duckdb")
    texts = [("long " * (3 + n % 5), "short") for n in range(20)]
    pairs = pl.DataFrame(
        {
            "item_id": [str(n) for n in range(20)],
            "prompt": [f"p{n}" for n in range(20)],
            "response_a": [a for a, _ in texts],
            "response_b": "no",
        }
    )
    votes = [
        {"ref": str(n), "annotator_id": f"w{w}", "annotator_kind": "human", "label": "a" if w < 2 else "b"}
        for n in range(20)
        for w in range(4)
    ]
    ingest(store, [Batch("pairs", pairs), Batch("annotations", pl.DataFrame(votes))])
    steps = [{"signal": {"length": {}}}, {"aggregate": {"em_mixture": {"features": ["length_words", "chars"], "held_out_share": 0}}}]
    report = execute(store, parse({"steps": steps})).steps[-1]
    assert [row["annotators"] for row in report.detail["groups"]] == [2, 2]
    again = execute(store, parse({"steps": steps})).steps[-1]
    assert (again.key, again.had) == (report.key, report.rows_in)
    execute(store, parse({"steps": [steps[0], {"aggregate": {"hierarchical": {"features": ["length_words"]}}}]}))
    assert store.value("SELECT count(*) FROM newest_labels WHERE winner IS NOT NULL AND confidence = 1") == 20
    with pytest.raises(PrefdataError, match=r"unknown column 'a_length_wrds'.*Did you mean 'a_length_words'"):
        execute(store, parse({"steps": [steps[0], {"aggregate": {"low_rank": {"features": ["length_wrds"]}}}]}))
    with pytest.raises(PrefdataError, match="features is 'text'; allowed: numbers of responses"):
        execute(store, parse({"steps": [{"aggregate": {"low_rank": {"features": ["text"]}}}]}))


def test_a_pair_without_a_feature_has_no_label() -> None:
    votes = pl.DataFrame(
        {
            "id": ["p", "q"],
            "annotator_id": ["u", "u"],
            "annotator_kind": ["human"] * 2,
            "choice": ["a", "b"],
            "a_score": [1.0, None],
            "b_score": [0.0, 2.0],
        }
    )
    for run in (em_mixture, low_rank):
        got = run(votes, 0, features=["score"])  # type: ignore[operator]
        assert got.frame["winner"].to_list() == ["a", None]
        assert got.frame["p_a"][1] is None
        assert any("1 voted pairs have no label" in line for line in got.detail["notes"])


def test_one_seed_one_answer_and_rows_in_any_order() -> None:
    votes, _ = society(4, 2, people=20, each=15)
    for run in (em_mixture, low_rank):
        one, same = run(votes, 3), run(votes, 3)  # type: ignore[operator]
        assert one.frame.equals(same.frame)
        assert one.detail == same.detail
        mixed = run(votes.sample(fraction=1, shuffle=True, seed=1), 3).frame  # type: ignore[operator]
        both = one.frame.join(mixed, on="pair_id")
        assert both.height == one.frame.height
        assert (both["p_a"] - both["p_a_right"]).abs().max() < 0.02


@pytest.mark.parametrize("run", [em_mixture, low_rank])
def test_edges(run: Any) -> None:
    none, _ = society(0, 1, people=1, each=1)
    got = run(none.clear(), 0)
    assert got.frame.height == 0
    json.dumps(got.detail, allow_nan=False)
    unanimous = none.with_columns(choice=pl.lit("a"))
    alone = run(unanimous, 0)
    assert alone.frame["winner"].to_list() == ["a"]
    json.dumps(alone.detail, allow_nan=False)
    unnamed = run(none.with_columns(a_model=pl.lit("")), 0)
    assert unnamed.frame["winner"].to_list() == [None]
    ties = run(society(0, 1, people=4, each=5)[0].with_columns(choice=pl.lit("both_bad")), 0)
    assert ties.frame["winner"].to_list() == [None] * ties.frame.height


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        (em_mixture, {"many": 0}, "many is 0"),
        (em_mixture, {"l2": 0.0}, "l2 is 0.0; allowed: a number above 0"),
        (em_mixture, {"held_out_share": 1.0}, "held_out is 1.0; allowed: a share"),
        (low_rank, {"rank": 0}, "rank is 0"),
        (low_rank, {"taste_l2": 0.0}, "taste_l2 is 0.0"),
    ],
)
def test_bad_parameters(run: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        run(society(0, 1, people=2, each=3)[0], 0, **options)


@pytest.mark.parametrize("features", [None, ["x", "y"]])
def test_slopes_of_tastes_are_slopes(features: list[str] | None) -> None:
    votes, _ = society(1, 2, people=5, each=6, models=4)
    rng = np.random.default_rng(0)
    votes = votes.with_columns(**{f"{side}_{name}": pl.Series(rng.normal(size=votes.height)) for side in "ab" for name in "xy"})
    ground = Ground.of(votes, "model", features)
    model = lowrank._Model(ground.design, ground.opinions, 3, 0.2, 0.5)
    x = rng.normal(size=3 * ground.design.size + 3 * 5)
    measured = [(model.slope(x + 1e-5 * e)[0] - model.slope(x - 1e-5 * e)[0]) / 2e-5 for e in np.eye(len(x))]
    assert model.slope(x)[1] == pytest.approx(np.array(measured), abs=1e-5)
    w = rng.normal(size=(ground.design.size, 2))
    g = rng.normal(size=(ground.opinions.pairs, 2))
    assert float((ground.design.differences(w) * g).sum()) == pytest.approx(float((w * ground.design.back(g)).sum()))


def test_leanings_are_singular_vectors() -> None:
    """Against the singular value decomposition of the table of slopes, made in full."""
    votes, _ = society(5, 2, people=30, each=20)
    ground = Ground.of(votes, "model", None)
    common = np.zeros(ground.design.size)
    v, x = ground.opinions, ground.design.differences(np.eye(ground.design.size))
    table = np.zeros((30, ground.design.size))
    for pair, who, said in zip(v.pair, v.who, v.said, strict=True):
        table[who] += (said - 0.5) * x[pair]
    table /= np.sqrt(np.bincount(v.who))[:, None]
    top = np.linalg.svd(table)[2][0]
    found = tastes.leanings(ground.design, v, common, 1, 60, np.random.default_rng(0))
    assert abs(float(found.along[:, 0] @ top)) == pytest.approx(1, abs=1e-6)
    assert found.of[:, 0] == pytest.approx(table @ found.along[:, 0])
