"""Filters that select, and signals of labels: against plain loops over a store of a hundred pairs, and what they say to bad values."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.core.errors import PrefdataError
from prefdata.core.ingest import Batch, ingest
from prefdata.core.recipe import parse
from prefdata.core.run import execute
from prefdata.core.store import Store

SCORES: dict[str, Any] = {"signal": {"score_margin": {}}}
LENGTHS: dict[str, Any] = {"signal": {"length_margin": {}}}
PEOPLE: dict[str, Any] = {"aggregate": {"majority": {"of": ["human"]}}}


def rows() -> list[dict[str, Any]]:
    """Pair n of prompt n % 30 and source s0 to s3 (unevenly); every third loses in length, every seventh is a tie."""
    out = []
    for n in range(100):
        long, short = "x" * (2 + n), "y"
        a, b = (short, long) if n % 3 == 0 else (long, short)
        out.append(
            {
                "item_id": str(n),
                "source": f"s{min(3, n % 10)}",
                "prompt": f"p{n % 30}",
                "response_a": f"{a}{n}",
                "response_b": f"{b}{n}",
                "score_a": float(n % 11),
                "score_b": float(n % 5),
            }
        )
    return out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The pairs; one person votes for a, and for a tie on every seventh."""
    store = Store(tmp_path / "store.duckdb")
    votes = [
        {"ref": r["item_id"], "source": r["source"], "annotator_id": "u", "annotator_kind": "human", "label": "tie" if n % 7 == 0 else "a"}
        for n, r in enumerate(rows())
    ]
    ingest(store, [Batch("pairs", pl.DataFrame(rows())), Batch("annotations", pl.DataFrame(votes))])
    return store


def run(store: Store, *steps: dict[str, Any], seed: int = 0) -> str:
    """The key of the last step."""
    return execute(store, parse({"steps": list(steps), "seed": seed})).steps[-1].key


def reasons(store: Store, name: str, **params: Any) -> dict[int, str | None]:
    """Item -> reason."""
    key = run(store, PEOPLE, SCORES, LENGTHS, {"filter": {name: params}})
    found = store.rows(
        "SELECT i.item_id, d.reason FROM decisions d JOIN items i ON i.subject = d.pair_id AND i.kind = 'pair' WHERE d.key = ?", [key]
    )
    return {int(item): reason for item, reason in found}


def margin(n: int) -> float | None:
    return None if n % 7 == 0 else float(n % 11 - n % 5)


def test_window_is_that_of_the_loop(store: Store) -> None:
    def reason(n: int) -> str | None:
        gap = margin(n)
        if gap is None:
            return "undefined"
        return "too_close" if gap < 1 else "too_far" if gap > 4 else "level_too_low" if n % 11 < 5 else None

    assert reasons(store, "window", low=1, high=4, level=5) == {n: reason(n) for n in range(100)}


def test_point_agree_is_that_of_the_loop(store: Store) -> None:
    def reason(n: int) -> str | None:
        gap = margin(n)
        return "no_winner" if gap is None else "contradicts" if gap < 0 else "too_close" if gap <= 1 else None

    assert reasons(store, "point_agree", min_gap=1) == {n: reason(n) for n in range(100)}


@pytest.mark.parametrize(("least", "min_votes", "kept"), [(1.0, 1, 100), (0.75, 2, 0)])
def test_agreement_of_single_votes(store: Store, least: float, min_votes: int, kept: int) -> None:
    found = reasons(store, "agreement", least=least, min_votes=min_votes)
    assert list(found.values()).count(None) == kept


@pytest.mark.parametrize("highest", [True, False])
def test_one_per_cluster_keeps_the_best_of_each(store: Store, highest: bool) -> None:
    kept = {
        n for n, reason in reasons(store, "one_per_cluster", cluster="source", by="chosen_chars", highest=highest).items() if not reason
    }
    groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for n, row in enumerate(rows()):
        if n % 7:
            groups[row["source"]].append((len(row["response_a"]), n))
    best = max if highest else min
    assert sorted(len(rows()[n]["response_a"]) for n in kept) == sorted(best(members)[0] for members in groups.values())
    assert len(kept) == 4


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_balance_leaves_equal_numbers(store: Store, ratio: float) -> None:
    found = reasons(store, "balance", by="sign(chosen_chars - rejected_chars)", ratio=ratio)
    shorter = {n for n in range(100) if n % 7 and n % 3 == 0}
    kept = {n for n, reason in found.items() if reason is None}
    assert shorter <= kept
    assert len(kept - shorter) == int(ratio * len(shorter))
    assert {n for n, reason in found.items() if reason == "undefined"} == {n for n in range(100) if n % 7 == 0}


def test_balance_within_sources(store: Store) -> None:
    found = reasons(store, "balance", by="chosen_chars > rejected_chars", within="source")
    counts = Counter((rows()[n]["source"], n % 3 == 0) for n, reason in found.items() if reason is None)
    for source in ("s0", "s1", "s2", "s3"):
        assert counts[source, True] == counts[source, False] > 0


def test_draws_follow_the_seed_and_stay_when_data_grow(store: Store) -> None:
    one, two = (reasons(store, "cap_per_source", most=3, seed=seed) for seed in (0, 1))
    assert one != two
    assert one == reasons(store, "cap_per_source", most=3, seed=0)
    more = pl.DataFrame([{**r, "prompt": "new", "item_id": f"9{r['item_id']}", "source": "s9"} for r in rows()[:10]])
    ingest(store, [Batch("pairs", more)])
    assert {n: reason for n, reason in reasons(store, "cap_per_source", most=3).items() if n in one} == one


def test_caps(store: Store) -> None:
    found = reasons(store, "cap_per_source", most=12)
    sizes = Counter(row["source"] for row in rows())
    kept = Counter(rows()[n]["source"] for n, reason in found.items() if reason is None)
    assert kept == {source: min(12, size) for source, size in sizes.items()}
    assert set(reasons(store, "cap_per_source", most=1, group="prompt_id", by="score_margin").values()) == {None, "over_cap"}


def test_stages_cover_all_pairs_once(store: Store) -> None:
    by_stage = [reasons(store, "curriculum", stage=stage, stages=4, by="score_margin", within="all") for stage in (1, 2, 3, 4)]
    for n in range(100):
        found = [stage[n] for stage in by_stage]
        assert found.count(None) == (0 if margin(n) is None else 1)
    easy, hard = ([margin(n) for n, reason in by_stage[k].items() if reason is None] for k in (0, 3))
    assert min(g for g in easy if g is not None) > max(g for g in hard if g is not None)


def test_within_a_prompt_no_hard_pair_comes_before_an_easy_one(store: Store) -> None:
    key = run(store, PEOPLE, SCORES, {"signal": {"curriculum_stage": {"stages": 2}}})
    found = store.rows(
        "SELECT i.item_id, s.value FROM signals s JOIN items i ON i.subject = s.subject AND i.kind = 'pair' WHERE s.key = ?", [key]
    )
    stages: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for item, stage in found:
        gap = margin(int(item))
        if stage is not None and gap is not None:
            stages[int(item) % 30].append((stage, int(item)))
    for members in stages.values():
        ordered = [margin(n) or 0 for _, n in sorted(members)]
        assert [stage for stage, _ in sorted(members)] == list(range(1, len(members) + 1))
        assert ordered == sorted(ordered, reverse=True)


def test_copies_and_contradictions(tmp_path: Path) -> None:
    store = Store(tmp_path / "copies.duckdb")
    pairs = [
        {"item_id": f"{n}", "prompt": "q" + " " * n, "response_a": a, "response_b": b, "label": label, "source": "s"}
        for n, (a, b, label) in enumerate([("x", "y", "a"), ("y", "x", "b"), ("x", "y", "b"), ("x", "z", "a"), ("x", "y", "tie")])
    ]
    ingest(store, [Batch("pairs", pl.DataFrame(pairs))])
    run(store, {"aggregate": {"majority": {}}}, {"signal": {"exact_duplicate": {}}}, {"signal": {"contradiction": {}}})
    found = store.rows("SELECT i.item_id, s.name, s.value FROM signals s JOIN items i ON i.subject = s.subject AND i.kind = 'pair'")
    value = {(int(item), name): number for item, name, number in found}
    assert [value[n, "copies"] for n in range(5)] == [4, 4, 4, 1, 4]
    assert sorted(value[n, "copy_rank"] for n in (0, 1, 2, 4)) == [0, 1, 2, 3]
    assert [value[n, "contradicted_by"] for n in range(5)] == [1, 1, 2, 0, None]
    assert [value[n, "confirmed_by"] for n in range(5)] == [1, 1, 0, 0, None]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"window": {}}, "allowed: at least one bound"),
        ({"window": {"low": 3, "high": 2}}, "low is 3.0; allowed: at most high, which is 2.0"),
        ({"agreement": {"least": 1.5}}, "least is 1.5; allowed: a share from 0 to 1"),
        ({"point_agree": {"min_gap": -1}}, "min_gap is -1.0; allowed: 0 or more"),
        ({"one_per_cluster": {"cluster": "clutser"}}, "unknown column 'clutser'"),
        ({"one_per_cluster": {"cluster": "source", "keep": 0}}, "keep is 0; allowed: 1 or more"),
        ({"balance": {"by": "source", "ratio": 0.5}}, "ratio is 0.5; allowed: 1 or more"),
        ({"balance": {"by": "source) OR (true"}}, r"the expression 'source\) OR \(true'"),
        ({"balance": {"by": "(SELECT 1)"}}, "holds a subquery"),
        ({"cap_per_source": {"most": -1}}, "most is -1; allowed: 0 or more"),
        ({"curriculum": {"stage": 4}}, "stage is 4; allowed: 1 to 3"),
        ({"curriculum": {"stage": 1, "by": 'x" OR "1'}}, "unknown column"),
    ],
)
def test_filters_say_what_is_wrong(store: Store, step: dict[str, Any], said: str) -> None:
    with pytest.raises(PrefdataError, match=said):
        run(store, PEOPLE, SCORES, {"filter": step})
