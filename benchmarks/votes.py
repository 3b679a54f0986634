"""Votes: aggregation and agreement beside crowd-kit, evalica, choix, krippendorff, statsmodels and scikit-learn.

    pip install crowd-kit choix krippendorff evalica statsmodels
    python benchmarks/votes.py --sizes 10000 100000 1000000 --repeat 5

Every job starts from the same votes in memory, in the form its package asks for: a Polars frame of text for prefdata's
methods (what the runner hands in), a pandas frame of text for crowd-kit, lists for evalica. So both sides number
annotators, items and labels themselves. Jobs alternate; the table holds medians of wall and CPU seconds, prefdata's
gain in CPU seconds, and how far the results agree. A job that the smaller size foretells to last longer than --most
seconds is not run.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

OUTCOMES = np.array(["a", "b", "tie"])


@dataclass
class Job:
    """Something to time: its seconds so far and its last result."""

    name: str
    work: Callable[[], Any]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    result: Any = None

    def once(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.result = self.work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


class Bench:
    """Runs jobs side by side and prints a row for each."""

    def __init__(self, repeat: int, most: float) -> None:
        self.repeat, self.most = repeat, most
        self.last: dict[tuple[str, str], tuple[int, float]] = {}
        print("| job | votes | who | wall s | CPU s | CPU against prefdata | agreement with prefdata |")
        print("|---|---|---|---|---|---|---|")

    def compare(self, what: str, size: int, ours: Callable[[], Any], agree: Callable[[Any, Any], str], **peers: Callable[[], Any]) -> None:
        jobs = [Job("prefdata", ours)]
        for name, work in peers.items():
            before = self.last.get((what, name))
            if before and before[1] * size / before[0] > self.most:
                print(f"| {what} | {size:,} | {name} | not run | | over {before[1] * size / before[0]:,.0f} s expected | |")
            else:
                jobs.append(Job(name, work))
        for number in range(self.repeat):
            for job in jobs:
                if number == 0 or sum(job.wall) < self.most:
                    job.once()
        for job in jobs:
            self.last[what, job.name] = (size, median(job.wall))
            gain = median(job.cpu) / median(jobs[0].cpu)
            words = "" if job is jobs[0] else agree(jobs[0].result, job.result)
            times = f"{median(job.wall):.4f} | {median(job.cpu):.4f}"
            print(f"| {what} | {size:,} | {job.name} | {times} | {'' if job is jobs[0] else f'{gain:.1f}x'} | {words} |", flush=True)


def crowd(size: int, seed: int = 0) -> tuple[pl.DataFrame, pd.DataFrame]:
    """Five votes a pair by one annotator in 500 votes, confusion matrices drawn, 45 : 45 : 10 a, b and tie."""
    rng = np.random.default_rng(seed)
    people, pairs = max(20, size // 500), size // 5
    truth = rng.choice(3, pairs, p=[0.45, 0.45, 0.1])
    pair, who = np.repeat(np.arange(pairs), 5), rng.integers(0, people, size)
    confusion = rng.gamma(np.where(np.eye(3, dtype=bool), 6.0, 1.0), size=(people, 3, 3))
    until = (confusion / confusion.sum(axis=2, keepdims=True))[who, truth[pair]].cumsum(axis=1)
    said = (rng.random(size)[:, None] > until).sum(axis=1).clip(max=2)
    ids = pl.Series(pair).cast(pl.String).str.zfill(8) + "-0000-4000-8000-000000000000"
    names = "w" + pl.Series(who).cast(pl.String)
    votes = pl.DataFrame({"id": ids, "annotator_id": names, "annotator_kind": "human", "choice": OUTCOMES[said]})
    frame = pd.DataFrame({"task": votes["id"].to_list(), "worker": votes["annotator_id"].to_list(), "label": votes["choice"].to_list()})
    return votes, frame


def same_labels(ours: Any, theirs: pd.DataFrame) -> str:
    """Share of equal labels, and the largest difference of a probability."""
    labels = ours.frame if hasattr(ours, "frame") else ours
    table = theirs.reindex(index=labels["pair_id"].to_list(), columns=["a", "b", "tie"]).fillna(0).to_numpy()
    p = np.stack([labels["p_a"].to_numpy(), (1 - labels["p_a"] - labels["p_tie"]).to_numpy(), labels["p_tie"].to_numpy()], axis=1)
    same = (p.argmax(axis=1) == table.argmax(axis=1)).mean()
    return f"{100 * same:.2f} % of labels; |dp| at most {np.abs(p - table).max():.2g}, mean {np.abs(p - table).mean():.2g}"


def aggregation(bench: Bench, sizes: list[int]) -> None:
    """Majority, Dawid-Skene, MACE and GLAD beside crowd-kit."""
    from crowdkit.aggregation import GLAD, MACE, DawidSkene, MajorityVote

    from prefdata.aggregate.dawid_skene import dawid_skene
    from prefdata.aggregate.glad import glad
    from prefdata.aggregate.mace import mace
    from prefdata.aggregate.weighted_vote import weighted_vote

    for size in sizes:
        votes, frame = crowd(size)
        bench.compare(
            "majority", size, lambda v=votes: weighted_vote(v, weights={}), same_labels,
            crowd_kit=lambda f=frame: MajorityVote().fit(f).probas_,
        )  # fmt: skip
        bench.compare(
            "Dawid-Skene", size, lambda v=votes: dawid_skene(v), same_labels,
            crowd_kit=lambda f=frame: DawidSkene(100).fit(f).probas_,
        )  # fmt: skip
        bench.compare("GLAD", size, lambda v=votes: glad(v), same_labels, crowd_kit=lambda f=frame: GLAD().fit(f).probas_)
        bench.compare("MACE", size, lambda v=votes: mace(v, 0), same_labels, crowd_kit=lambda f=frame: MACE().fit(f).probas_)


def tournament(size: int, items: int, seed: int = 0) -> tuple[pl.DataFrame, list[str], list[str], np.ndarray]:
    """Comparisons of items with normal strengths, a tenth of them ties."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=items)
    first = rng.integers(0, items, size)
    second = (first + 1 + rng.integers(0, items - 1, size)) % items
    won = rng.random(size) < 1 / (1 + np.exp(strength[second] - strength[first]))
    points = np.where(rng.random(size) < 0.1, 0.5, won)
    a, b = ("m" + pl.Series(side).cast(pl.String) for side in (first, second))
    ids = pl.Series(np.arange(size)).cast(pl.String)
    counted = {"n": 1, "n_a": (points == 1).astype(int), "n_b": (points == 0).astype(int), "n_tie": (points == 0.5).astype(int)}
    pool = pl.DataFrame({"id": ids, "a_id": ids, "b_id": ids, "a_model": a, "b_model": b, **counted, "n_both_bad": 0})
    return pool, a.to_list(), b.to_list(), points


def same_strengths(ours: Any, theirs: pd.Series) -> str:
    """Largest difference of centred log-strengths."""
    mine = {row["model"]: row["strength"] for row in ours.detail["models"]}
    log = np.log(theirs)
    log = log - log.mean()
    off = max(abs(log[name] - value) for name, value in mine.items())
    rank = np.corrcoef([mine[name] for name in mine], [log[name] for name in mine])[0, 1]
    return f"log-strengths differ by at most {off:.2g}; correlation {rank:.6f}"


def ranking(bench: Bench, sizes: list[int]) -> None:
    """Bradley-Terry with ties as half wins beside evalica and crowd-kit (which takes no ties: they are left out for it)."""
    import evalica
    from crowdkit.aggregation import BradleyTerry

    from prefdata.aggregate.bradley_terry import bradley_terry

    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    for items in (100, 10_000):
        for size in (size for size in sizes if size >= 20 * items or items == 100):
            pool, a, b, points = tournament(size, items)
            ws = [winner[p] for p in points.tolist()]
            sided = points != 0.5
            frame = pd.DataFrame({"left": a, "right": b, "label": np.where(points == 1, a, b)})[sided]
            bench.compare(
                f"Bradley-Terry, {items:,} items", size,
                lambda p=pool: bradley_terry(p, level="model", ties="half", l2=1e-6), same_strengths,
                evalica=lambda a=a, b=b, ws=ws: evalica.bradley_terry(a, b, ws).scores,
                crowd_kit=lambda f=frame: BradleyTerry(100, tol=1e-6).fit(f).scores_,
            )  # fmt: skip


def same_number(ours: Any, theirs: Any) -> str:
    """Both values."""
    mine, other = (np.round(np.asarray(x, dtype=float), 6).tolist() for x in (ours, theirs))
    return f"{mine} and {other}"


def agreement(bench: Bench, sizes: list[int]) -> None:
    """Krippendorff's alpha, its bootstrap, Fleiss' and Cohen's kappa; five raters a unit, three values."""
    import evalica
    import krippendorff
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    from prefdata.core import agreement as ours
    from prefdata.core import stats

    for size in sizes:
        rng = np.random.default_rng(0)
        units = size // 5
        truth = rng.integers(0, 3, units)
        table = np.where(rng.random((units, 5)) < 0.6, truth[:, None], rng.integers(0, 3, (units, 5)))
        unit, said = np.repeat(np.arange(units), 5), table.ravel()
        raters = pd.DataFrame(table.T)

        def counts(unit: Any = unit, said: Any = said, units: int = units) -> np.ndarray:
            return ours.count_table(unit, said, units, 3)

        for level in ("nominal", "ordinal"):
            bench.compare(
                f"alpha, {level}", size, lambda c=counts, lv=level: stats.krippendorff_alpha(c(), lv), same_number,
                krippendorff=lambda t=table, lv=level: krippendorff.alpha(reliability_data=t.T, level_of_measurement=lv),
                evalica=lambda r=raters, lv=level: evalica.alpha(r, lv).alpha,
            )  # fmt: skip
        bench.compare(
            "alpha, 1,000 resamples", size, lambda c=counts: ours.alpha_interval(c(), resamples=1000)[:3], same_number,
            evalica=lambda r=raters: (lambda f: (f.alpha, f.low, f.high))(evalica.alpha_bootstrap(r, n_resamples=1000, random_state=0)),
        )  # fmt: skip
        bench.compare(
            "Fleiss' kappa", size, lambda c=counts: ours.fleiss_kappa(c()), same_number,
            statsmodels=lambda t=table: fleiss_kappa(aggregate_raters(t)[0]),
        )  # fmt: skip
        half = size // 2
        one, two = said[:half], np.where(rng.random(half) < 0.5, said[:half], rng.integers(0, 3, half))
        bench.compare(
            "Cohen's kappa", half, lambda x=one, y=two: stats.cohen_kappa(ours.count_table(x, y, 3, 3)), same_number,
            scikit_learn=lambda x=one, y=two: cohen_kappa_score(x, y),
        )  # fmt: skip


def main() -> None:
    """Run the parts and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--most", type=float, default=120, help="no job is begun again after so many seconds, nor one that is foretold to last longer"
    )
    parser.add_argument("--parts", nargs="*", default=["aggregation", "ranking", "agreement"])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}\n")
    bench = Bench(options.repeat, options.most)
    for part in (aggregation, ranking, agreement):
        if part.__name__ in options.parts:
            part(bench, options.sizes)
    print(f"\nload average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
