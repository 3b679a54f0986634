"""Published figures, recomputed on the real sets through the product's own sources, aggregates and statistics.

The sets are read from PREFDATA_REAL_DATA (default: ../shared/data beside the project); without them the tests skip. Where
a figure does not come out exactly, the test says by how much and why.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import prefdata
from prefdata.core import stats, strengths
from prefdata.core.store import Store

DATA = Path(os.environ.get("PREFDATA_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not at {DATA}; set PREFDATA_REAL_DATA")

Loader = Callable[[str], Store]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """A store with one set: its pairs, then its votes and machine judgements."""
    stores: dict[str, Store] = {}

    def get(name: str) -> Store:
        if name not in stores:
            store = Store(tmp_path_factory.mktemp(name) / "store.duckdb")
            files = [path for kind in ("pairs", "annotations", "judgments") if (path := DATA / kind / f"{name}.jsonl.gz").exists()]
            prefdata.run({"steps": [{"source": {"auto": {"path": str(path)}}} for path in files]}, store)
            stores[name] = store
        return stores[name]

    return get


def rows(kind: str, name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / kind / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def labels(store: Store, name: str, **aggregate: Any) -> dict[str, dict[str, Any]]:
    """Labels by people, in the frame of the set's file; the label that came with a pair is no vote of its own."""
    ((method, params),) = aggregate.items()
    report = prefdata.run({"steps": [{"aggregate": {method: {"of": ["human", f"-imported:{name}"], **params}}}]}, store)
    found = store.frame(
        """SELECT i.item_id, l.p_tie, l.votes, CASE WHEN swapped THEN 1 - p_a - p_tie ELSE p_a END AS p_a,
               CASE WHEN swapped AND winner = 'a' THEN 'b' WHEN swapped AND winner = 'b' THEN 'a' ELSE winner END AS winner
           FROM labels l JOIN items i ON i.subject = l.pair_id AND i.kind = 'pair' WHERE l.key = ?""",
        [report.steps[-1].key],
    )
    return {row["item_id"]: row for row in found.iter_rows(named=True)}


def plurality(votes: dict[str, int]) -> str | None:
    top = [name for name, count in votes.items() if count == max(votes.values())]
    return top[0] if len(top) == 1 else None


def test_llmfao_majority_is_the_published_plurality(load: Loader) -> None:
    found = labels(load("llmfao"), "llmfao", majority={})
    assert {item: row["winner"] for item, row in found.items()} == {row["item_id"]: row["label"] for row in rows("pairs", "llmfao")}
    assert len(found) == 2139
    assert sum(row["votes"] for row in found.values()) == 8931


def test_ukp_majority_is_the_plurality_of_the_published_votes(load: Loader) -> None:
    names = {"a1": "a", "a2": "b", "equal": "tie"}
    published = {r["item_id"]: plurality({names[k]: n for k, n in r["extra"]["votes"].items()}) for r in rows("pairs", "ukp_convarg")}
    assert {item: row["winner"] for item, row in labels(load("ukp_convarg"), "ukp_convarg", majority={}).items()} == published
    assert len(published) == 8369


def test_ukp_the_longer_argument_wins_in_three_of_four(load: Loader) -> None:
    """Published: about 75 %, over the corpus' own labels, ties out; the audit says the same of both kinds of label."""
    store = load("ukp_convarg")
    shares = {}
    for kind, of in (("gold", ["imported:ukp_convarg"]), ("crowd", ["-imported:ukp_convarg"])):
        report = prefdata.run({"steps": [{"aggregate": {"majority": {"of": of}}}, {"audit": {"summary": {}}}]}, store)
        found = next(row for row in report.steps[-1].detail["longer_chosen"] if row["source"] == "all")
        shares[kind] = found["share"]
        assert found["low"] < 0.75 < found["high"] or abs(found["share"] - 0.75) < 0.02
    assert shares["gold"] == pytest.approx(0.75, abs=0.02)


def test_pandalm_majority_counts(load: Loader) -> None:
    """Published: 105 ties, 422 a, 472 b of 999. Six rows hold JSON `true` for a text and are refused: 4 a and 2 b of those."""
    found = labels(load("pandalm"), "pandalm", majority={})
    stored, all_rows = Counter(row["winner"] for row in found.values()), rows("pairs", "pandalm")
    refused = Counter(row["label"] for row in all_rows if row["item_id"] not in found)
    assert all(
        not isinstance(row["response_a"], str) or not isinstance(row["response_b"], str) for row in all_rows if row["item_id"] not in found
    )
    assert stored == {"tie": 105, "a": 418, "b": 470}
    assert stored + refused == {"tie": 105, "a": 422, "b": 472}
    assert all(found[row["item_id"]]["winner"] == row["label"] for row in all_rows if row["item_id"] in found)


@pytest.mark.parametrize(("one", "two", "published"), [("human1", "human2", 0.85), ("human1", "human3", 0.88), ("human2", "human3", 0.86)])
def test_pandalm_kappas(load: Loader, one: str, two: str, published: float) -> None:
    """From the store's votes, in the frame of the file, and those of the six refused rows, which stand in the file only."""
    votes = load("pandalm").frame(
        """SELECT item_id, annotator_id,
               CASE WHEN swapped AND choice = 'a' THEN 'b' WHEN swapped AND choice = 'b' THEN 'a' ELSE choice END AS label
           FROM annotations x JOIN items i ON i.subject = x.subject AND i.kind = 'pair' WHERE annotator_id IN (?, ?)""",
        [one, two],
    )
    given = {(item, who): label for item, who, label in votes.iter_rows()}
    assert len(given) == 2 * 993
    raw = {(row["item_id"], row["annotator_id"]): row["label"] for row in rows("annotations", "pandalm")}
    assert all(raw[key] == label for key, label in given.items())
    given |= {key: label for key, label in raw.items() if key[1] in (one, two)}
    table, choices = np.zeros((3, 3)), ("a", "b", "tie")
    for item in {item for item, _ in given}:
        table[choices.index(given[item, one]), choices.index(given[item, two])] += 1
    assert table.sum() == 999
    assert round(stats.cohen_kappa(table) or 0, 2) == published


def model_strengths(store: Store, who: str, **options: Any) -> tuple[list[str], stats.Reals]:
    votes = store.frame(
        f"""SELECT ra.model AS a, rb.model AS b, x.choice FROM annotations x JOIN pairs p ON p.id = x.subject
            JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b WHERE {who}"""
    )
    models = sorted({*votes["a"], *votes["b"]})
    first, second = (votes[side].replace_strict(models, range(len(models))).to_numpy() for side in "ab")
    wins, losses, ties = ((votes["choice"] == choice).cast(pl.Float64).to_numpy() for choice in ("a", "b", "tie"))
    fitted = strengths.bradley_terry(first, second, wins, losses, ties, items=len(models), **options)
    return models, fitted.strength.round(9)


def test_llmfao_ranks_of_models(load: Loader) -> None:
    """Spearman of Bradley-Terry ranks, ties as half wins: crowd with GPT-4 0.7309, with GPT-3 0.7166 (0.7156 is also seen).

    GPT-4 comes out to the digit. With GPT-3 it is 0.7157: two models stand exactly equal in GPT-3's votes and share their
    mean rank here; broken one way or the other the figure is 0.7156 or 0.7158. 0.7166 is not reached by any order.
    """
    store = load("llmfao")
    crowd = model_strengths(store, "x.annotator_kind = 'human' AND x.annotator_id <> 'imported:llmfao'", ties_as="half", l2=0)
    judged = {}
    for judge in ("gpt-4", "gpt-3.5-turbo-instruct"):
        models, judged[judge] = model_strengths(store, f"x.annotator_id = '{judge}/llmfao'", ties_as="half", l2=0)
        assert models == crowd[0]
    assert len(crowd[0]) == 59
    assert round(stats.spearman(crowd[1], judged["gpt-4"]) or 0, 4) == 0.7309
    assert round(stats.spearman(crowd[1], judged["gpt-3.5-turbo-instruct"]) or 0, 4) == 0.7157


def test_llmfao_labels_follow_the_strengths_of_the_models(load: Loader) -> None:
    """The aggregate step at the level of models gives sigma of the difference of those strengths."""
    store = load("llmfao")
    models, strength = model_strengths(store, "x.annotator_kind = 'human' AND x.annotator_id <> 'imported:llmfao'", ties_as="half", l2=0.1)
    at = dict(zip(models, strength, strict=True))
    found = labels(store, "llmfao", bradley_terry={"level": "model", "ties": "half"})
    for row in rows("pairs", "llmfao")[:200]:
        expected = 1 / (1 + np.exp(at[row["model_b"]] - at[row["model_a"]]))
        assert found[row["item_id"]]["p_a"] == pytest.approx(expected, abs=1e-5)


def comparisons(name: str) -> tuple[list[str], Any]:
    with (DATA / "reference" / f"{name}.csv").open() as file:
        listed = list(csv.DictReader(file))
    items = sorted({row[side] for row in listed for side in ("left", "right")})
    sides = [np.array([items.index(row[side]) for row in listed]) for side in ("left", "right")]
    outcomes = [np.array([float(row["winner"] == word) for row in listed]) for word in ("left", "right", "tie")]
    return items, (*sides, *outcomes)


def golden(name: str, algorithm: str, items: list[str]) -> stats.Reals:
    with (DATA / "reference" / f"{name}-golden.csv").open() as file:
        scores = {row["item"]: float(row["score"]) for row in csv.DictReader(file) if row["algorithm"] == algorithm}
    return np.array([scores[item] for item in items])


@pytest.mark.parametrize("name", ["food", "simple"])
def test_evalica_golden_bradley_terry(name: str) -> None:
    """Their scores are strengths that sum to 1, ties as half wins, no ridge."""
    items, counts = comparisons(name)
    strength = np.exp(strengths.bradley_terry(*counts, items=len(items), ties_as="half", l2=0).strength)
    assert strength / strength.sum() == pytest.approx(golden(name, "bradley_terry", items), abs=1e-9)


@pytest.mark.parametrize(("name", "off"), [("food", 1e-6), ("simple", 2e-5)])
def test_evalica_golden_newman(name: str, off: float) -> None:
    """Newman's algorithm climbs Davidson's likelihood; its log-scores are our strengths but for a common shift and its stopping rule."""
    items, counts = comparisons(name)
    strength = strengths.bradley_terry(*counts, items=len(items), ties_as="davidson", l2=0).strength
    wanted = np.log(golden(name, "newman", items))
    assert strength - strength.mean() == pytest.approx(wanted - wanted.mean(), abs=off)


@pytest.mark.parametrize(("name", "alpha"), [("codings", 904 / 1216), ("gcl", 0.0833333)])
def test_krippendorff_reference(name: str, alpha: float) -> None:
    with (DATA / "reference" / f"{name}.csv").open() as file:
        raters = list(csv.reader(file))
    values = sorted({value for rater in raters for value in rater if value})
    counts = np.array([[sum(rater[unit] == value for rater in raters) for value in values] for unit in range(len(raters[0]))])
    assert stats.krippendorff_alpha(counts.astype(float)) == pytest.approx(alpha, abs=1e-6)


def ratings(name: str, metric: str | None = None) -> stats.Reals:
    """Units x values, values in their order."""
    kept = [
        (row["item_id"], row["label"])
        for row in rows("annotations", name)
        if metric in (None, row.get("metric")) and row["label"] is not None
    ]
    units, values = sorted({unit for unit, _ in kept}), sorted({value for _, value in kept})
    counts = np.zeros((len(units), len(values)))
    for unit, value in kept:
        counts[units.index(unit), values.index(value)] += 1
    return counts


def test_dices_nominal_alpha() -> None:
    assert stats.krippendorff_alpha(ratings("dices_990")) == pytest.approx(0.14324966, abs=1e-8)


@pytest.mark.parametrize(
    ("metric", "alpha"), [("Informativeness", 0.2849), ("Relevance", 0.1151), ("Fluency", -0.0158), ("Coherence", 0.0650)]
)
def test_newsroom_ordinal_alpha(metric: str, alpha: float) -> None:
    assert stats.krippendorff_alpha(ratings("newsroom", metric), "ordinal") == pytest.approx(alpha, abs=5e-5)
