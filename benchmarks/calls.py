"""How fast, how cheap and how safe model calls are: 2,000 distinct prompts against mock_server.py, store included.

    python benchmarks/calls.py [--repeat 3]

Rows of the table: a clean run; the same run again (all cached); 10 % 429 + 5 % 500 + 1 % cut JSON + 0.5 % hangs; kill -9 near
1,000 delivered answers and a second run. Client and server share the machine. Start-up is from process start to the
first request at the server; CPU and peak memory are those of the whole client process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CALLS, WIDTH, KILL_AT = 2_000, 200, 1_000
PROMPT = "Question {}: which of the two answers is better, and why? " + "Some words of context follow here. " * 6


async def client(url: str, store: Path) -> dict[str, Any]:
    """What one run of the toolkit does: rows from a queue, 200 in flight, all replies kept."""
    sys.path.insert(0, str(HERE.parent))
    from mock_server import reply_to

    from prefdata.core.store import Store
    from prefdata.models.providers import Providers

    providers = Providers({"m": {"kind": "openai", "model": "mock", "base_url": url, "max_concurrency": WIDTH, "timeout": 2}}, Store(store))
    providers.check("m", "ask")
    ask, numbers, wrong, lost = providers.ask("m"), iter(range(CALLS)), 0, 0

    async def worker() -> None:
        nonlocal wrong, lost
        for number in numbers:
            prompt = PROMPT.format(number)
            try:
                reply = await ask([{"role": "user", "content": prompt}], temperature=0.7)
                wrong += reply.text != reply_to(prompt)
            except Exception as error:
                lost += 1
                print(error, file=sys.stderr)

    started = time.time()
    await asyncio.gather(*(worker() for _ in range(WIDTH)))
    answered = time.time()
    await providers.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "started": started,
        "seconds": answered - started,
        "closing": time.time() - answered,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": peak(),
        "wrong": wrong,
        "lost": lost,
        "calls": providers.calls,
        "cached": providers.cached,
        "retries": providers.retries,
    }


def peak() -> float:
    """MB; on Linux not from getrusage, which remembers the parent's peak, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def served(*flags: str) -> Iterator[str]:
    """The server in a process of its own."""
    process = subprocess.Popen([sys.executable, HERE / "mock_server.py", *flags], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def get(url: str, data: bytes | None = None) -> dict[str, Any]:
    with urllib.request.urlopen(url, data) as response:
        found: dict[str, Any] = json.load(response)
    return found


def made(folder: str) -> Path:
    """An empty store; its tables are made here, since that happens once in a store's life."""
    sys.path.insert(0, str(HERE.parent))
    from prefdata.core.store import Store

    path = Path(folder) / "s.duckdb"
    with Store(path).write():
        return path


def start(url: str, store: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, "--client", f"{url}/v1", "--store", store], stdout=subprocess.PIPE, text=True)


def run(url: str, store: Path) -> dict[str, Any]:
    """One client process to its end."""
    get(f"{url}/reset", b"")
    begin = time.time()
    process = start(url, store)
    out, _ = process.communicate()
    found: dict[str, Any] = json.loads(out)
    stats = get(f"{url}/stats")
    found["startup"] = (stats["first"] or found["started"]) - begin
    return {**found, "stats": stats}


def killed(url: str, store: Path) -> dict[str, Any]:
    """kill -9 near 1,000 answers, then again to the end."""
    get(f"{url}/reset", b"")
    process = start(url, store)
    while get(f"{url}/stats")["delivered"] < KILL_AT:
        time.sleep(0.01)
    at = time.time()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.6)
    before = get(f"{url}/stats")
    out, _ = start(url, store).communicate()
    found: dict[str, Any] = json.loads(out)
    again, later = get(f"{url}/again/{at}")["again"], get(f"{url}/again/{time.time()}")["again"]
    return {**found, "before": before["delivered"], "again": again, "later": later - again, "distinct": get(f"{url}/stats")["distinct"]}


def line(what: str, found: dict[str, Any]) -> str:
    rate, cpu = CALLS / found["seconds"], found["cpu"] * 1000 / CALLS
    tail = f"{found['startup']:8.2f}" if "startup" in found else " " * 8
    return f"{what:26s}{rate:9.0f}{cpu:12.2f}{found['peak']:9.0f}{tail}{found['lost']:6d}{found['wrong']:7d}{found['retries']:9d}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--client", help="(internal) run as the client of this address")
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    if given.client:
        print(json.dumps(asyncio.run(client(given.client, given.store))))
        return
    print(f"{'':26s}{'calls/s':>9s}{'CPU s/1000':>12s}{'peak MB':>9s}{'start s':>8s}{'lost':>6s}{'wrong':>7s}{'retries':>9s}")
    for _ in range(given.repeat):
        with tempfile.TemporaryDirectory() as folder, served() as url:
            store = made(folder)
            print(line("clean", run(url, store)))
            print(line("again (all cached)", run(url, store)))
        for flags in (["--faults"], ["--faults", "--retry-after"]):
            with tempfile.TemporaryDirectory() as folder, served(*flags) as url:
                print(line(" ".join(flags), run(url, made(folder))))
        with tempfile.TemporaryDirectory() as folder, served() as url:
            found = killed(url, made(folder))
            print(
                f"kill -9 at {found['before']} answers: the second run took {found['cached']} from the store, "
                f"bought {found['again']} delivered answers again (and {found['later']} that came when the process was dead); "
                f"{found['distinct']} of {CALLS} complete"
            )


if __name__ == "__main__":
    main()
