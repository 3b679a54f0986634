"""A million pairs: import, then signals, filters, split and export, beside the floor of the format and `datasets`.

    python benchmarks/curate.py --rows 1000000 --out /tmp/bench

Each job is a process of its own; wall and CPU seconds and peak memory are that process's. Rows are synthetic (about
1.5 KB of text each, eight sources, two scores), written once as zstd Parquet. What is compared:

    copy            DuckDB copies as many rows as the filters keep from Parquet to Parquet: the floor of the format
    bare load       DuckDB: CREATE TABLE AS, the file as it is, checkpoint included
    prefdata import the same file into a store: prompts, responses, pairs, labels, each with its identity
    prefdata curate majority, length signals, two filters (one a quantile), split by prompt, Parquet export
    datasets        the same curation as its documentation does it: map, filter, train_test_split, to_parquet
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

RECIPE = """
steps:
  - aggregate: majority
  - signal: length_margin
  - filter: no_ties
  - filter: {where: {keep: "length_ratio < 3 and percent_rank() over (order by length_margin) < 0.78", reason: lengths}}
  - export: {dpo: {out: OUT, test: 0.1}}
"""
JOBS = ("copy", "bare load", "prefdata import", "prefdata curate", "datasets")


def write_input(path: Path, rows: int) -> None:
    """Synthetic pairs of Zipf-distributed words, each row's drawn anew: zstd takes them to about 40 %, as it does prose."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    vocabulary = np.array(["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 10))) for _ in range(20_000)])
    weights = 1 / np.arange(1, 20_001)
    until = np.cumsum(weights / weights.sum())

    def texts(count: int, low: int, high: int) -> list[str]:
        lengths = rng.integers(low, high, count)
        ends = np.cumsum(lengths)
        drawn = np.searchsorted(until, rng.random(int(ends[-1]) // 4)).clip(max=len(vocabulary) - 1)
        text = " ".join(vocabulary[drawn])
        return [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    writer = None
    for start in range(0, rows, 100_000):
        count = min(100_000, rows - start)
        table = pa.table(
            {
                "prompt": texts(count, 100, 500),
                "chosen": texts(count, 200, 1000),
                "rejected": texts(count, 200, 1000),
                "source": [f"s{k}" for k in rng.integers(0, 8, count)],
                "score_chosen": 5 + rng.random(count) * 5,
                "score_rejected": rng.random(count) * 5,
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


def job(name: str, folder: Path) -> None:
    """Do one job; runs inside its own process."""
    source, store = folder / "in.parquet", folder / "store.duckdb"
    if name == "copy":
        _duckdb(f"COPY (SELECT * FROM '{source}' WHERE score_chosen > 6.33) TO '{folder}/copy.parquet' (FORMAT parquet, COMPRESSION zstd)")
    elif name == "bare load":
        (folder / "bare.duckdb").unlink(missing_ok=True)
        _duckdb(f"CREATE TABLE t AS FROM '{source}'; CHECKPOINT", folder / "bare.duckdb")
    elif name == "prefdata import":
        for old in folder.glob("store.duckdb*"):
            old.unlink()
        _prefdata("--store", str(store), "import", str(source))
    elif name == "prefdata curate":
        shutil.rmtree(folder / "export", ignore_errors=True)
        (folder / "recipe.yaml").write_text(RECIPE.replace("OUT", str(folder / "export")))
        _prefdata("--store", str(store), "run", str(folder / "recipe.yaml"))
    elif name == "datasets":
        _datasets(source, folder)


def _duckdb(sql: str, path: Path | None = None) -> None:
    import duckdb

    with duckdb.connect(str(path) if path else ":memory:", config={"memory_limit": "1GB"}) as connection:
        connection.execute(sql)


def _prefdata(*arguments: str) -> None:
    from prefdata.cli.main import main

    sys.argv = ["prefdata", *arguments]
    main()


def _datasets(source: Path, folder: Path) -> None:
    import numpy as np
    from datasets import load_dataset

    data = load_dataset("parquet", data_files=str(source), split="train", cache_dir=str(folder / "cache"))

    def signals(row: dict) -> dict:
        a, b = len(row["chosen"]), len(row["rejected"])
        return {
            "length_margin": a - b,
            "length_ratio": max(a, b) / max(1, min(a, b)),
            "margin": row["score_chosen"] - row["score_rejected"],
        }

    data = data.map(signals)
    limit = float(np.quantile(np.array(data["length_margin"]), 0.78))
    data = data.filter(lambda r: r["margin"] != 0).filter(lambda r: r["length_ratio"] < 3 and r["length_margin"] < limit)
    for split, rows in data.train_test_split(test_size=0.1, seed=0).items():
        rows.to_parquet(folder / f"datasets-{split}.parquet")


def main() -> None:
    """Run the jobs one after the other and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("/tmp/prefdata-bench"))
    parser.add_argument("--repeat", type=int, default=1, help="alternate the jobs this many times")
    parser.add_argument("--skip", nargs="*", default=[], choices=JOBS)
    parser.add_argument("--job", choices=JOBS, help="only this one, in this process")
    options = parser.parse_args()
    if options.job:
        job(options.job, options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "in.parquet").exists():
        write_input(options.out / "in.parquet", options.rows)
    print(f"{options.rows:,} rows, {(options.out / 'in.parquet').stat().st_size / 1e9:.2f} GB of Parquet")
    print(f"{'job':<18}{'wall s':>9}{'CPU s':>9}{'peak GB':>9}")
    for _ in range(options.repeat):
        for name in JOBS:
            if name not in options.skip:
                wall, cpu, peak = _measured([sys.executable, __file__, "--out", str(options.out), "--job", name])
                print(f"{name:<18}{wall:>9.1f}{cpu:>9.1f}{peak:>9.2f}", flush=True)


def _measured(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GB of a child, measured by a parent of its own."""
    code = (
        "import resource,subprocess,sys,time;t=time.time();"
        "p=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.PIPE,text=True);w=time.time()-t;"
        "r=resource.getrusage(resource.RUSAGE_CHILDREN);"
        "sys.exit(p.stderr[-2000:]) if p.returncode else print(w,r.ru_utime+r.ru_stime,r.ru_maxrss/1e6)"
    )
    started = time.time()
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed after {time.time() - started:.0f} s:\n{done.stderr}")
    wall, cpu, peak = map(float, done.stdout.split())
    return wall, cpu, peak


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
