"""Take the pictures of the app and of a report, in a real Chromium, on the samples.

python docs/make_screenshots.py     (needs chromium and  pip install 'prefdata[all,dev]')
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import prefdata
from prefdata.cli.label import command
from prefdata.core import report
from prefdata.core.labelling import next_pair, record
from prefdata.core.store import Store

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PORT = 8599
VIEWS = {"label": "", "review": "review", "dashboard": "dashboard", "explore": "explore", "runs": "runs"}


def fill(store: Store) -> None:
    """English samples, the authors' votes on them, and forty made-up votes of two people."""
    folder, samples = store.path.parent, ROOT / "sample_data"
    rows = [json.loads(line) for line in (samples / "candidates.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["category"] in ("summarise", "safety", "extract")]
    chosen = {row["item_id"] for row in rows}
    votes = [line for line in (samples / "votes.jsonl").read_text(encoding="utf-8").splitlines() if json.loads(line)["item_id"] in chosen]
    (folder / "candidates.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "votes.jsonl").write_text("\n".join(votes), encoding="utf-8")
    sources = [{"source": {"auto": {"path": str(folder / name)}}} for name in ("candidates.jsonl", "votes.jsonl")]
    steps = [{"aggregate": "majority"}, {"signal": "length_margin"}, {"signal": "edit_distance"}, {"filter": "no_ties"}]
    prefdata.run({"steps": [*sources, *steps, {"export": {"dpo": {"out": str(folder / "out")}}}]}, store)
    left, right = "left", "right"
    for annotator, answers in (("ann", (left, right, left, left, "tie")), ("ben", (right, right, left, right, left))):
        for number in range(20):
            task = next_pair(store, annotator, overlap=2)
            if task is None:
                return
            record(store, annotator, task, answers[number % 5], seconds=4.0 + number % 7)


def shoot(browser: Any, address: str, target: Path, height: int = 900) -> None:
    """One page, once it has settled, at 1400 pixels."""
    page = browser.new_page(viewport={"width": 1400, "height": height})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    time.sleep(4)
    page.screenshot(path=str(target))
    page.close()


def main() -> None:
    """Fill a store, serve the app, take the pictures."""
    from playwright.sync_api import sync_playwright

    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "prefdata.duckdb")
        fill(store)
        page = Path(folder) / "report.html"
        page.write_text(report.build(store), encoding="utf-8")
        environment = {**os.environ, "PREFDATA_STORE": str(store.path), "PREFDATA_ANNOTATOR": "cleo"}
        served = subprocess.Popen(command(ROOT / "app" / "main.py", PORT), env=environment, stdout=subprocess.DEVNULL)
        try:
            time.sleep(8)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
                for name, path in VIEWS.items():
                    shoot(browser, f"http://127.0.0.1:{PORT}/{path}", ROOT / "docs" / f"{name}.png")
                shoot(browser, page.as_uri(), ROOT / "docs" / "report.png", 1500)
                browser.close()
        finally:
            served.terminate()
            served.wait(timeout=20)


if __name__ == "__main__":
    sys.exit(main())
