"""Key press -> next pair, with a million pairs queued: the labelling app in Chromium, and its store calls alone.

    python benchmarks/labelling_latency.py [--pairs 1000000] [--answers 100] [--pause 0.4] [--store FILE]

Target: 95 of 100 answers show the next pair, with the answer on disk, within 150 ms on a machine that does nothing else.
Needs the app extra, playwright and Chromium (CHROMIUM names another than /usr/bin/chromium). The store is made by SQL,
about 1.2 KB of text per pair; --store keeps it for the next time.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from prefdata.core.desk import Desk
from prefdata.core.labelling import Seat
from prefdata.core.store import Store

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
WATCH = """() => {
  const text = () => [".st-key-left", ".st-key-right"].map((s) => document.querySelector(s)?.innerText ?? "").join();
  let before = text(), pressed = null;
  window.times = [];
  window.addEventListener("keydown", () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    const now = text();
    if (pressed === null || now === before || now.length < 20) return;
    const start = pressed;
    before = now; pressed = null;
    requestAnimationFrame(() => window.times.push(performance.now() - start));
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def make_store(path: Path, pairs: int) -> Store:
    """A prompt and two responses per pair, all of them queued for humans."""
    store = Store(path)
    if store.exists:
        return store
    with store.write() as db:
        db.execute(f"""INSERT INTO prompts BY NAME SELECT md5('p' || i)::UUID AS id, 'made' AS source,
            to_json([{{role: 'user', content: 'Question ' || i || repeat(' and how so?', 15)}}]) AS messages FROM range({pairs}) t(i)""")
        for side in "ab":
            db.execute(f"""INSERT INTO responses BY NAME SELECT md5('{side}' || i)::UUID AS id, md5('p' || i)::UUID AS prompt_id,
                'm{side}' AS model, 0 AS sample, 'made' AS source,
                'Answer ' || i || ' {side}' || repeat(' and ' || md5('{side}' || i), 14) AS text FROM range({pairs}) t(i)""")
        db.execute(f"""INSERT INTO pairs BY NAME SELECT md5(least(a, b)::VARCHAR || greatest(a, b)::VARCHAR)::UUID AS id, p AS prompt_id,
            least(a, b) AS a, greatest(a, b) AS b, 'made' AS source FROM (SELECT md5('p' || i)::UUID AS p, md5('a' || i)::UUID AS a,
            md5('b' || i)::UUID AS b FROM range({pairs}) t(i))""")
        db.execute("INSERT INTO queue SELECT id, 'made', 'human', hash(id) / 1e19, 'unsure' FROM pairs")
    return store


def time_calls(store: Store, answers: int, pause: float) -> list[float]:
    """Milliseconds of one answer and the next pair, without a browser."""
    desk = Desk(store, Seat(f"calls-{time.time_ns()}"))
    desk.current()
    times = []
    for _ in range(answers):
        task = desk.current()
        assert task is not None
        start = time.perf_counter()
        desk.answer(task, "left", seconds=pause)
        desk.current()
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(pause)
    return times


def time_keys(store: Store, answers: int, pause: float) -> list[float]:
    """Milliseconds from key press to the painted next pair, as the page sees them."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PREFDATA_STORE": str(store.path), "PREFDATA_ANNOTATOR": f"keys-{time.time_ns()}"}
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py"), f"--server.port={port}"]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS)
            page: Any = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(f"http://127.0.0.1:{port}")
            page.get_by_role("button", name="Both bad").wait_for()
            page.wait_for_timeout(2000)
            page.evaluate(WATCH)
            for number in range(answers):
                page.keyboard.press("atbx12345"[number % 9])
                page.wait_for_function(f"window.times.length > {number}", polling=10)
                page.wait_for_timeout(pause * 1000)
            times: list[float] = page.evaluate("window.times")
            browser.close()
    finally:
        child.terminate()
        child.wait()
    return times


def _wait_for(address: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=1)
            return
        except OSError:
            time.sleep(0.1)


def summary(times: list[float]) -> str:
    ordered = sorted(times)
    return f"median {ordered[len(ordered) // 2]:.0f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.0f} ms, most {ordered[-1]:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between an answer and the next")
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(options.store or Path(folder) / "made.duckdb", options.pairs)
        load = os.getloadavg()[0]
        print(f"{options.pairs:,} pairs queued, {store.path.stat().st_size / 1e6:,.0f} MB, {os.cpu_count()} cores, load before {load:.1f}")
        print("store calls      ", summary(time_calls(store, options.answers, options.pause)))
        print("key to next pair ", summary(time_keys(store, options.answers, options.pause)))


if __name__ == "__main__":
    main()
