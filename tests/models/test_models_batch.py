"""`mode: batch` against a loopback server with the files and batches endpoints."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from models_server import Seen, completion, serving, user

from prefdata.core.errors import Stopped
from prefdata.core.store import Store
from prefdata.models import batch
from prefdata.models.protocol import CallFailed, Reply
from prefdata.models.providers import Providers

Line = dict[str, Any]


def good(text: str) -> Line:
    return {"status_code": 200, "body": completion(text)}


@dataclass
class BatchServer:
    """Files and batches in memory; a batch is done when it was looked at `looks` times."""

    looks: int = 2
    answer: Callable[[int, Line], Line | None] = lambda number, body: good(f"re: {body['messages'][0]['content']}")
    end: str = "completed"
    errors: list[Line] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    batches: dict[str, Line] = field(default_factory=dict)
    lose: list[str] = field(default_factory=list)
    """Paths whose next answer is lost on the way, after the work was done."""
    asked: list[str] = field(default_factory=list)
    gate: threading.Event | None = None
    """Batches are done only when it is set."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.list)
        app.router.add_get("/v1/batches/{id}", self.look)

    def reply(self, request: web.Request, data: Any) -> web.Response:
        if request.path in self.lose:
            self.lose.remove(request.path)
            return web.Response(status=502, text="lost")
        return web.json_response(data)

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read().decode()
        return self.reply(request, {"id": name, "object": "file"})

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(text=self.files[request.match_info["id"]])

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["endpoint"] == "/v1/chat/completions"
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {"id": name, "status": "validating", "metadata": body["metadata"], "file": body["input_file_id"], "looks": 0}
        return self.reply(request, self.batches[name])

    async def list(self, request: web.Request) -> web.Response:
        entries = list(self.batches.values())[::-1]
        start = next((n + 1 for n, e in enumerate(entries) if e["id"] == request.query.get("after")), 0)
        return web.json_response({"data": entries[start : start + 1], "has_more": start + 1 < len(entries)})

    async def look(self, request: web.Request) -> web.Response:
        entry = self.batches[request.match_info["id"]]
        entry["looks"] += 1
        ready = self.gate.is_set() if self.gate else entry["looks"] >= self.looks
        if ready and entry["status"] not in ("completed", "expired", "failed"):
            self.finish(entry)
        return self.reply(request, entry)

    def finish(self, entry: Line) -> None:
        entry["status"] = self.end
        entry["errors"] = {"data": self.errors}
        if self.end == "failed":
            self.end, self.errors = "completed", []
            return
        out, bad = [], []
        for number, text in enumerate(self.files[entry["file"]].splitlines()):
            line = json.loads(text)
            self.asked.append(line["body"]["messages"][0]["content"])
            response = self.answer(number, line["body"])
            if response:
                (out if response["status_code"] == 200 else bad).append(json.dumps({"custom_id": line["custom_id"], "response": response}))
        for name, lines in (("output_file_id", out[::-1]), ("error_file_id", bad)):
            if lines:
                entry[name] = f"file-{len(self.files)}"
                self.files[entry[name]] = "\n".join(lines) + "\n"
        self.end = "completed"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "QUIET", 0.05)
    monkeypatch.setattr(batch, "FIRST_WAIT", 0.01)


def spec(seen: Seen, **more: Any) -> dict[str, Any]:
    return {"m": {"kind": "openai", "model": "m", "base_url": seen.url, "mode": "batch", "poll": 0.02, **more}}


async def many(providers: Providers, count: int = 10) -> list[Any]:
    asks = (providers.ask("m")(user(f"q{n}"), temperature=0.5) for n in range(count))
    return list(await asyncio.gather(*asks, return_exceptions=True))


def notes(store: Store) -> list[Path]:
    return list(store.path.parent.glob("*.batch.*"))


def test_one_batch_answers_all_and_fills_the_same_cache(using: Any, store: Store) -> None:
    server = BatchServer()
    with serving(routes=server.routes) as seen:
        replies, providers = using(spec(seen, price={"input": 1, "output": 1}), many)
        assert [r.text for r in replies] == [f"re: q{n}" for n in range(10)]
        assert (len(server.batches), providers.calls) == (1, 10)
        assert providers.spent == pytest.approx(10 * 15e-6)
        plain = {"m": {k: v for k, v in spec(seen)["m"].items() if k not in ("mode", "poll")}}
        again, providers = using(plain, many)
    assert [r.text for r in again] == [r.text for r in replies]
    assert providers.calls == 0
    assert seen.bodies == []
    assert notes(store) == []


def test_one_bad_request_takes_nothing_with_it(using: Any) -> None:
    failed: set[str] = set()

    def answer(number: int, body: Line) -> Line | None:
        text = body["messages"][0]["content"]
        if text == "q3":
            return {"status_code": 400, "body": {"error": {"message": "too long"}}}
        if text == "q4" and text not in failed:
            failed.add(text)
            return {"status_code": 500, "body": {"error": {"message": "hiccup"}}}
        if text == "q5" and text not in failed:
            failed.add(text)
            return {"status_code": 200, "body": {"choices": []}}
        return {"status_code": 200, "body": completion(text)}

    server = BatchServer(answer=answer)
    with serving(routes=server.routes) as seen:
        replies, providers = using(spec(seen), many)
    assert isinstance(replies[3], CallFailed)
    assert "too long" in str(replies[3])
    assert [r.text for n, r in enumerate(replies) if n != 3] == [f"q{n}" for n in range(10) if n != 3]
    assert sorted(server.asked) == sorted([f"q{n}" for n in range(10)] + ["q4", "q5"])
    assert (providers.calls, providers.failed) == (9, 1)


def test_of_an_expired_batch_what_was_answered_is_used_and_the_rest_asked_again(using: Any) -> None:
    def answer(number: int, body: Line) -> Line | None:
        return {"status_code": 200, "body": completion("x")} if number < 6 else None

    server = BatchServer(answer=answer, end="expired")
    with serving(routes=server.routes) as seen:
        replies, _ = using(spec(seen), many)
    assert all(isinstance(r, Reply) for r in replies)
    assert [len(server.files[b["file"]].splitlines()) for b in server.batches.values()] == [10, 4]


def test_a_refused_line_fails_alone(using: Any) -> None:
    server = BatchServer(end="failed", errors=[{"line": 3, "message": "bad parameter"}])
    with serving(routes=server.routes) as seen:
        replies, _ = using(spec(seen), many)
    bad = [r for r in replies if not isinstance(r, Reply)]
    assert [type(r) for r in bad] == [CallFailed]
    assert "bad parameter" in str(bad[0])


def test_a_refused_batch_stops_the_run(using: Any) -> None:
    server = BatchServer(end="failed", errors=[{"message": "model does not support batches"}])
    with serving(routes=server.routes) as seen:
        replies, _ = using(spec(seen), many)
    assert all(isinstance(r, Stopped) and "does not support batches" in str(r) for r in replies)


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "/v1/batches/batch-0"])
def test_a_lost_answer_makes_no_second_batch(using: Any, path: str) -> None:
    server = BatchServer(lose=[path])
    with serving(routes=server.routes) as seen:
        replies, _ = using(spec(seen), many)
    assert all(isinstance(r, Reply) for r in replies)
    assert len(server.batches) == 1
    assert len(server.asked) == 10


def test_a_restart_finds_its_batch_again(using: Any, store: Store) -> None:
    server = BatchServer(gate=threading.Event())

    async def stop_early(providers: Providers) -> None:
        tasks = [asyncio.create_task(providers.ask("m")(user(f"q{n}"), temperature=0.5)) for n in range(10)]
        while not any(b["looks"] for b in server.batches.values()):
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with serving(routes=server.routes) as seen:
        using(spec(seen), stop_early)
        assert len(notes(store)) == 1
        assert server.gate
        server.gate.set()
        few, _ = using(spec(seen), lambda p: many(p, 4))
        assert all(isinstance(r, Reply) for r in few)
        assert len(notes(store)) == 1, "six answers are still owed"
        rest, _ = using(spec(seen), many)
        assert all(isinstance(r, Reply) for r in rest)
    assert (len(server.batches), len(server.asked)) == (1, 10)
    assert notes(store) == []


def test_answers_asked_for_one_after_the_other_come_from_the_found_batch(using: Any, store: Store) -> None:
    test_server = BatchServer(gate=threading.Event())

    async def stop_early(providers: Providers) -> None:
        tasks = [asyncio.create_task(providers.ask("m")(user(f"q{n}"))) for n in range(5)]
        while not any(b["looks"] for b in test_server.batches.values()):
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def one_by_one(providers: Providers) -> list[str]:
        return [(await providers.ask("m")(user(f"q{n}"))).text for n in range(5)]

    with serving(routes=test_server.routes) as seen:
        using(spec(seen), stop_early)
        assert test_server.gate
        test_server.gate.set()
        texts, _ = using(spec(seen), one_by_one)
    assert texts == [f"re: q{n}" for n in range(5)]
    assert (len(test_server.batches), notes(store)) == (1, [])


@pytest.mark.parametrize("made", [True, False])
def test_a_run_killed_between_asking_and_noting_asks_no_second_time(using: Any, store: Store, made: bool) -> None:
    """The note holds the ids and no batch: the server knows whether there is one, by its mark."""
    server = BatchServer(gate=threading.Event())

    async def stop_early(providers: Providers) -> None:
        task = asyncio.create_task(providers.ask("m")(user("q0"), temperature=0.5))
        while not any(b["looks"] for b in server.batches.values()):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with serving(routes=server.routes) as seen:
        using(spec(seen), stop_early)
        (note,) = notes(store)
        note.write_text(note.read_text().splitlines()[0] + '\n{"batch": "ba')
        server.batches["other"] = {"id": "other", "status": "completed", "metadata": None}
        if not made:
            del server.batches["batch-0"]
        assert server.gate
        server.gate.set()
        replies, _ = using(spec(seen), lambda p: many(p, 1))
    assert isinstance(replies[0], Reply)
    assert server.asked == ["q0"]
    assert len([b for b in server.batches.values() if b["id"] != "other"]) == 1
    assert notes(store) == []


def test_a_big_load_is_split(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_REQUESTS", 4)
    server = BatchServer()
    with serving(routes=server.routes) as seen:
        replies, providers = using(spec(seen), many)
    assert all(isinstance(r, Reply) for r in replies)
    assert sorted(len(server.files[b["file"]].splitlines()) for b in server.batches.values()) == [2, 4, 4]
    assert providers.concurrency("m") > 1000
