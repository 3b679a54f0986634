"""Near-duplicates: documents per second, recall, wrong joins and memory, beside other MinHash packages.

    python benchmarks/duplicates.py --documents 100000 --out /tmp/bench
    python benchmarks/duplicates.py --documents 1000000 --out /tmp/bench --tools prefdata
    python benchmarks/duplicates.py --documents 100000 --out /tmp/bench --python /path/with/peers/bin/python --tools datasketch rensa gaoya

Documents are about 700 bytes of Zipf-distributed words; 15 % are copies of another one with 0.5 to 10 % of their words
drawn anew. Every tool looks for a Jaccard similarity of 0.8 between sets of word trigrams. Each runs in a process of its
own, which first reads the documents and then is timed; wall and CPU seconds are those of the search, the peak is that of
the whole process.

    recall      share of the planted copies with that true similarity which the tool joins with their original
    below 0.5   pairs it joins whose true similarity is below 0.5: of a member and the first of its group, for tools that
                make groups; of a document and what the index returns for it, for the others
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Joined = Iterable[tuple[int, int]]
TOOLS = ("prefdata", "datasketch", "rensa", "gaoya")
SHARE, WORDS, THRESHOLD, N = 0.15, 105, 0.8, 3


def write_documents(folder: Path, count: int) -> None:
    """documents.parquet: text, and for a copy the place of its original and their true similarity."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    vocabulary = np.array(["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 10))) for _ in range(20_000)])
    until = np.cumsum(1 / np.arange(1, 20_001))
    until /= until[-1]
    schema = pa.schema([("text", pa.large_string()), ("original", pa.int64()), ("similarity", pa.float64())])
    with pq.ParquetWriter(folder / "documents.parquet", schema) as writer:
        for start in range(0, count, 50_000):
            size = min(50_000, count - start)
            fresh = size - int(size * SHARE)
            drawn = np.searchsorted(until, rng.random((fresh, WORDS))).clip(max=len(vocabulary) - 1)
            original = rng.integers(0, fresh, size - fresh)
            copies = drawn[original].copy()
            changed = rng.random(copies.shape) < rng.uniform(0.005, 0.1, len(copies))[:, None]
            copies[changed] = np.searchsorted(until, rng.random(int(changed.sum()))).clip(max=len(vocabulary) - 1)
            texts = [" ".join(row) for row in vocabulary[np.concatenate([drawn, copies])]]
            true = [similarity(texts[one], texts[fresh + k]) for k, one in enumerate(original)]
            columns = [texts, [None] * fresh + [start + int(one) for one in original], [None] * fresh + true]
            writer.write_table(pa.table(columns, schema=schema))


def trigrams(text: str) -> set[str]:
    cut = text.split()
    return {" ".join(cut[k : k + N]) for k in range(len(cut) - N + 1)}


def similarity(one: str, other: str) -> float:
    a, b = trigrams(one), trigrams(other)
    return len(a & b) / len(a | b)


def prefdata(texts: Any) -> Joined:
    from prefdata.core.minhash import near_duplicates

    first = near_duplicates(texts, n=N, threshold=THRESHOLD).first.tolist()
    return [(early, late) for late, early in enumerate(first) if early != late]


def datasketch(texts: list[str]) -> Joined:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    joined = []
    for place, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in trigrams(text)])
        joined += [(early, place) for early in index.query(sketch)]
        index.insert(place, sketch)
    return joined


def rensa(texts: list[str]) -> Joined:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
    joined = []
    for place, text in enumerate(texts):
        sketch = RMinHash(num_perm=128, seed=1)
        sketch.update(list(trigrams(text)))
        joined += [(early, place) for early in index.query(sketch)]
        index.insert(place, sketch)
    return joined


def gaoya(texts: list[str]) -> Joined:
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(
        hash_size=32, jaccard_threshold=THRESHOLD, num_bands=20, band_size=5, num_hashes=100, analyzer="word", ngram_range=(N, N)
    )
    index.par_bulk_insert_docs(list(range(len(texts))), texts)
    found = index.par_bulk_query(texts, return_similarity=False)
    return [(early, place) for place, others in enumerate(found) for early in others if early < place]


RUN: dict[str, Callable[[Any], Joined]] = {"prefdata": prefdata, "datasketch": datasketch, "rensa": rensa, "gaoya": gaoya}


def job(tool: str, folder: Path) -> None:
    """Time one tool on the documents and print what it found; runs inside its own process."""
    texts = _column(folder) if tool == "prefdata" else _list(folder)
    wall, cpu = time.perf_counter(), time.process_time()
    joined = RUN[tool](texts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "joined": list(joined)}))


def _column(folder: Path) -> Any:
    import polars as pl

    return pl.read_parquet(folder / "documents.parquet", columns=["text"], low_memory=True)["text"]


def _list(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    texts: list[str] = pq.read_table(folder / "documents.parquet", columns=["text"])["text"].to_pylist()
    return texts


def score(folder: Path, joined: list[list[int]]) -> tuple[float, float, int, int]:
    """Recall at 0.8 to 0.9 and from 0.9 on; pairs joined, and those of them below 0.5."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "documents.parquet").to_pydict()
    first: dict[int, int] = {}
    for early, late in sorted(joined):
        first.setdefault(late, first.get(early, early))
    found = {tuple(sorted(pair)) for pair in joined}
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for late, (original, true) in enumerate(zip(table["original"], table["similarity"], strict=True)):
        if true is not None and true >= THRESHOLD:
            one, other = sorted((original, late))
            hits[true >= 0.9].append((one, other) in found or first.get(one, one) == first.get(other, other))
    wrong = sum(similarity(table["text"][one], table["text"][other]) < 0.5 for one, other in found)
    return sum(hits[False]) / len(hits[False]), sum(hits[True]) / len(hits[True]), len(found), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tools", nargs="+", default=["prefdata"], choices=TOOLS)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the tools")
    parser.add_argument("--job", choices=TOOLS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = given.out / f"duplicates-{given.documents}"
    if given.job:
        return job(given.job, folder)
    if not (folder / "documents.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_documents(folder, given.documents)
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| tool | documents | wall s | CPU s | documents/s | recall 0.8 - 0.9 | recall from 0.9 | joined | below 0.5 | peak GB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for tool in given.tools:
        command = [given.python, str(Path(__file__)), "--job", tool, "--documents", str(given.documents), "--out", str(given.out)]
        out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        middle, high, joined, wrong = score(folder, out["joined"])
        speed = given.documents / out["wall"]
        print(
            f"| {tool} | {given.documents:,} | {out['wall']:.1f} | {out['cpu']:.1f} | {speed:,.0f} | {middle:.4f} | {high:.4f} "
            f"| {joined:,} | {wrong:,} | {out['peak']:.2f} |",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
