"""A real HTTP server on loopback whose answers a test scripts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Answer:
    """One scripted answer; a `body` that is no str is sent as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    """Close the connection instead of answering."""


Script = Callable[[int, dict[str, Any]], Answer]


@dataclass
class Seen:
    """What the server has seen."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    flying: int = 0
    most: int = 0


def completion(text: Any = "fine", *, tokens_in: int = 10, tokens_out: int = 5, **message: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "served-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def echo(number: int, body: dict[str, Any]) -> Answer:
    return Answer(completion(f"re: {body['messages'][-1]['content']}"))


@contextmanager
def serving(script: Script = echo, routes: Callable[[web.Application], None] | None = None) -> Iterator[Seen]:
    """Serve POST /v1/chat/completions in a thread; the script is called with the number of the request and its body."""
    seen, loop, ready = Seen(), asyncio.new_event_loop(), threading.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        number = len(seen.bodies)
        seen.bodies.append(body)
        seen.headers.append(dict(request.headers))
        seen.times.append(loop.time())
        seen.flying += 1
        seen.most = max(seen.most, seen.flying)
        try:
            answer = script(number, body)
            await asyncio.sleep(answer.delay)
        finally:
            seen.flying -= 1
        if answer.drop:
            assert request.transport
            request.transport.abort()
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        return web.Response(status=answer.status, text=text, headers=answer.headers, content_type="application/json")

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", handle)
        if routes:
            routes(app)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        seen.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.runners = [loop.run_until_complete(start())]  # type: ignore[attr-defined]
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        asyncio.run_coroutine_threadsafe(loop.runners[0].cleanup(), loop).result(10)  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
