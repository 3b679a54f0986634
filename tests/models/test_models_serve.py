"""The real client against a real server that is not ours: `transformers serve` with the tiny model."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from models_server import user

from prefdata.models.protocol import CallFailed
from prefdata.models.providers import Providers

ROOT = Path(__file__).resolve().parents[2]
TINY = "sample_data/tiny-lm"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("fastapi", reason="transformers serve needs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", TINY, "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def test_it_answers_and_the_second_run_asks_nothing(url: str, using: Any) -> None:
    async def ask(providers: Providers) -> list[Any]:
        questions = [f"What is {n} + {n}?" for n in range(10)]
        return list(await asyncio.gather(*(providers.ask("m")(user(q), temperature=0, max_tokens=16) for q in questions)))

    spec = {"m": {"kind": "openai", "model": TINY, "base_url": url, "max_concurrency": 4}}
    first, providers = using(spec, ask)
    assert providers.calls == 10
    assert all(r.text and r.tokens_in and r.tokens_out and r.finish in ("stop", "length") and TINY in r.model for r in first)
    second, providers = using(spec, ask)
    assert providers.calls == 0
    assert [r.text for r in second] == [r.text for r in first]


def test_served_and_in_process_answers_are_the_same(url: str, using: Any) -> None:
    async def ask(providers: Providers) -> list[str]:
        return [(await providers.ask(name)(user("What is coffee?"), temperature=0, max_tokens=16)).text for name in ("served", "local")]

    specs = {
        "served": {"kind": "openai", "model": TINY, "base_url": url},
        "local": {"kind": "transformers", "path": str(ROOT / TINY), "device": "cpu"},
    }
    (served, local), _ = using(specs, ask)
    assert served == local


def test_a_wrong_model_name_is_said_in_the_servers_words(url: str, using: Any) -> None:
    with pytest.raises(CallFailed, match="pinned to"):
        using({"m": {"kind": "openai", "model": "other/model", "base_url": url}}, lambda p: p.ask("m")(user("x")))
