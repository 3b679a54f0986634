"""The rounds that pipelines/online_rounds.yaml spells out, run as written but for shorter answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefdata.cli import init
from prefdata.core import queries
from prefdata.core.store import Store

RECIPE = Path(__file__).resolve().parents[2] / "pipelines" / "online_rounds.yaml"


@pytest.mark.slow
def test_every_round_starts_where_the_last_one_ended(tmp_path: Path) -> None:
    init.init(tmp_path)
    lines = [line[4:] for line in RECIPE.read_text().splitlines() if re.match(r"#   (mkdir|for|  prefdata|  policy|done)", line)]
    script = "\n".join(lines).replace("export.dpo.out", "strategy.sample_n.n=1 strategy.sample_n.max_tokens=6 export.dpo.out")
    script = script.replace("--lr 1e-4", "--lr 1e-4 --max-steps 2")
    assert script.count("prefdata ") == 2
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / "out" / "online" / f"policy-{t}" / "training.json").read_text()) for t in (1, 2)]
    assert [result["model"] for result in results] == ["sample_data/tiny-lm", "out/online/policy-1"]
    assert results[0]["export_fingerprint"] != results[1]["export_fingerprint"], "new answers, new pairs"
    for t in (1, 2):
        with Store(tmp_path / "out" / "online" / f"round-{t}.duckdb").read() as db:
            (row,) = queries.trainings(db)
            writers = {r["model"] for r in queries.rows(db, "SELECT DISTINCT model FROM responses WHERE role = 'sample'")}
        assert Path(row["path"]).name == f"policy-{t}"
        assert len(writers) == 1
