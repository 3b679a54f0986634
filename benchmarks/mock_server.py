"""A chat completions server for benchmarks: 200 +- 40 ms, faults on demand, and a count of what it delivered.

    python benchmarks/mock_server.py --port 8900 [--faults]

GET /stats tells what was asked and delivered, GET /again/TIME what of that before TIME was delivered twice, POST /reset
forgets it. With --faults, 10 % of the attempts are answered
429, 5 % 500, 1 % with JSON that is cut, and 0.5 % never. HTTP is spoken by hand so that the server costs the client
little of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter

MEAN, SPREAD = 0.200, 0.040
FAULTS = (("429", 0.10), ("500", 0.05), ("cut", 0.01), ("hang", 0.005))


class State:
    """What the server has seen."""

    def __init__(self, faults: bool, retry_after: bool) -> None:
        self.faults, self.retry_after = faults, retry_after
        self.random = random.Random(7)
        self.reset()

    def reset(self) -> None:
        self.delivered: dict[str, list[float]] = {}
        self.kinds: Counter[str] = Counter()
        self.first = 0.0
        self.flying = self.most = 0

    def draw(self) -> str:
        """What becomes of this attempt."""
        at = self.random.random()
        for kind, share in FAULTS if self.faults else ():
            if at < share:
                return kind
            at -= share
        return "ok"

    def again(self, before: float) -> int:
        """How many answers delivered before that time were bought again."""
        return sum(len(times) - 1 for times in self.delivered.values() if times[0] < before)

    def stats(self) -> dict[str, object]:
        return {
            "delivered": sum(map(len, self.delivered.values())),
            "distinct": len(self.delivered),
            "kinds": dict(self.kinds),
            "first": self.first,
            "most_at_once": self.most,
        }


class Http(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self, state: State) -> None:
        self.state, self.buffer = state, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
        if len(rest) < length:
            return
        body, self.buffer = rest[:length], rest[length:]
        self.answer(head.split(b" ", 2)[1].decode(), body)

    def answer(self, path: str, body: bytes) -> None:
        state = self.state
        if path == "/stats":
            self.write(200, json.dumps(state.stats()).encode())
        elif path.startswith("/again/"):
            self.write(200, json.dumps({"again": state.again(float(path[7:]))}).encode())
        elif path == "/reset":
            state.reset()
            self.write(200, b"{}")
        else:
            state.first = state.first or time.time()
            prompt = json.loads(body)["messages"][-1]["content"]
            state.flying += 1
            state.most = max(state.most, state.flying)
            kind = state.draw()
            delay = 0.005 if kind == "429" else max(0.02, state.random.gauss(MEAN, SPREAD))
            asyncio.get_running_loop().call_later(delay, self.finish, kind, prompt)

    def finish(self, kind: str, prompt: str) -> None:
        state = self.state
        state.flying -= 1
        if self.transport.is_closing():
            state.kinds["gone"] += 1
            return
        state.kinds[kind] += 1
        if kind == "hang":
            return
        if kind in ("429", "500"):
            extra = b"Retry-After: 1\r\n" if kind == "429" and state.retry_after else b""
            self.write(int(kind), b'{"error": {"message": "try again", "type": "mock"}}', extra)
            return
        whole = completion(prompt)
        if kind == "cut":
            self.write(200, whole[: len(whole) // 2])
            return
        state.delivered.setdefault(prompt, []).append(time.time())
        self.write(200, whole)

    def write(self, status: int, body: bytes, extra: bytes = b"") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
        self.transport.write(head + extra + b"\r\n" + body)


def reply_to(prompt: str) -> str:
    """The one right answer, so that a wrong one is noticed."""
    return f"The answer to <{prompt}> is {sum(prompt.encode())}. " + "All of it was said before. " * 12


def completion(prompt: str) -> bytes:
    text = reply_to(prompt)
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4, "total_tokens": (len(prompt) + len(text)) // 4},
    }).encode()  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--retry-after", action="store_true", help="429 come with Retry-After: 1")
    given = parser.parse_args()
    state = State(given.faults, given.retry_after)
    server = await asyncio.get_running_loop().create_server(lambda: Http(state), "127.0.0.1", given.port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
