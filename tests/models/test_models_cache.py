"""The durable cache and its journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_server import Answer, completion, serving, user

from prefdata.core import calls
from prefdata.core.errors import Stopped, StoreError
from prefdata.core.store import Store
from prefdata.models.cache import Cache, Known
from prefdata.models.journal import Journal
from prefdata.models.protocol import Reply
from prefdata.models.providers import Providers
from prefdata.models.request import Request, build

ROOT = Path(__file__).resolve().parents[2]
ECHO = {"m": {"kind": "mock", "replies": "echo"}}


def request(text: str, sample: int = 0) -> Request:
    return build({"kind": "mock", "model": "m"}, user(text), {}, sample)


async def many(providers: Providers, count: int = 100) -> list[Reply]:
    return list(await asyncio.gather(*(providers.ask("m")(user(f"q {n}"), temperature=0.5) for n in range(count))))


async def committed(store: Store) -> None:
    while journal_files(store):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


def journal_files(store: Store) -> list[Path]:
    return list(store.path.parent.glob("*.calls.*"))


def test_the_second_run_asks_nothing(using: Any, store: Store) -> None:
    first, providers = using(ECHO, many)
    assert (providers.calls, providers.cached) == (100, 0)
    second, providers = using(ECHO, many)
    assert (providers.calls, providers.cached, providers.spent) == (0, 100, 0)
    assert [r.text for r in first] == [r.text for r in second]
    assert all(r.cached and r.cost == 0 for r in second)
    assert (second[0].tokens_in, second[0].finish, second[0].model) == (first[0].tokens_in, first[0].finish, first[0].model)
    assert journal_files(store) == []


def test_what_is_stored_can_be_read_with_sql(using: Any, store: Store) -> None:
    using(
        {"m": {"kind": "mock", "replies": {"text": "hi", "tokens_in": 10, "tokens_out": 100}, "price": {"input": 1, "output": 2}}},
        lambda p: many(p, 3),
    )
    rows = store.rows(
        "SELECT model, request->>'$.messages[0].content', request->>'$.sampling.temperature', reply->>'$.text', "
        "tokens_in, tokens_out, cost, created > now()::TIMESTAMP - INTERVAL 1 DAY FROM calls ORDER BY 2"
    )
    # 10 * $1 + 100 * $2 per million
    assert rows == [("mock", f"q {n}", "0.5", "hi", 10, 100, pytest.approx(210e-6), True) for n in range(3)]


def test_a_reply_is_there_before_and_after_its_commit(store: Store) -> None:
    async def run() -> None:
        cache = Cache(store, interval=0.05)
        await cache.open()
        assert await cache.get(request("a").id) is None
        cache.put(request("a"), "m", Reply("one", tokens_in=1))
        assert len(journal_files(store)) == 1
        assert (await cache.get(request("a").id)).text == "one"  # type: ignore[union-attr]
        await committed(store)
        found = await asyncio.gather(*(cache.get(request("a").id) for _ in range(5)))
        assert {(r.text, r.cached) for r in found if r} == {("one", True)}
        await cache.close()

    asyncio.run(run())


def test_lookups_that_arrive_together_open_the_store_once(using: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    using(ECHO, many)
    batches = []
    known = calls.replies
    monkeypatch.setattr(calls, "replies", lambda s, ids: batches.append(len(ids)) or known(s, ids))
    using(ECHO, many)
    assert batches == [100]


def test_what_is_new_costs_no_lookup(using: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    using(ECHO, lambda p: many(p, 10))
    monkeypatch.setattr(calls, "replies", lambda s, ids: pytest.fail("looked up"))
    using(ECHO, lambda p: p.ask("m")(user("new")))


def test_no_cache_asks_anew_once_and_keeps_both(using: Any, store: Store) -> None:
    using(ECHO, lambda p: many(p, 5))

    async def twice(providers: Providers) -> None:
        await many(providers, 5)
        await committed(store)
        await many(providers, 5)

    _, providers = using(ECHO, twice, use_cache=False)
    assert (providers.calls, providers.cached) == (5, 5)
    assert store.value("SELECT count(*) FROM calls") == 10
    _, providers = using(ECHO, lambda p: many(p, 5))
    assert providers.calls == 0


def test_the_newest_reply_counts(store: Store) -> None:
    async def put(text: str) -> None:
        cache = Cache(store, use=False)
        await cache.open()
        cache.put(request("a"), "m", Reply(text))
        await cache.close()

    async def get() -> Reply | None:
        cache = Cache(store)
        found = await cache.get(request("a").id)
        await cache.close()
        return found

    for text in ("old", "new"):
        asyncio.run(put(text))
    found = asyncio.run(get())
    assert found is not None
    assert found.text == "new"


def test_two_runs_at_once_share_what_they_buy(store: Store) -> None:
    async def run() -> tuple[int, int]:
        one, two = Providers(ECHO, store, interval=0.02), Providers(ECHO, store, interval=0.02)
        await many(two, 1)
        await many(one, 50)
        await committed(store)
        await two.ask("m")(user("makes the second one look"))
        await committed(store)
        await many(two, 50)
        await one.close()
        await two.close()
        return one.calls, two.calls

    first, second = asyncio.run(run())
    assert first >= 49
    assert second == 2, "its own first, and the one that made it look: the other 49 came from the first run"


def test_a_killed_process_leaves_its_journal_to_the_next(store: Store) -> None:
    journal = Journal(store.path)
    lines = [
        json.dumps({"id": request(t).id, "model": "m", "request": {}, "reply": {"text": t}, "created": "2026-01-01T00:00:00.5"})
        for t in "ab"
    ]
    for line in lines:
        journal.append(line.encode() + b"\n")
    segment = journal.seal()
    assert segment
    os.write(segment.descriptor, b'{"id": "torn')
    cache_while_alive = Cache(store)
    asyncio.run(_open_close(cache_while_alive))
    assert segment.path.exists(), "its owner lives"
    segment.leave()
    asyncio.run(_open_close(Cache(store)))
    assert not segment.path.exists()
    assert store.rows("SELECT reply->>'text' FROM calls ORDER BY 1") == [("a",), ("b",)]
    # killed between commit and removal: the same lines come again and are known
    segment.path.write_text("\n".join(lines) + "\n")
    asyncio.run(_open_close(Cache(store)))
    assert not segment.path.exists()
    assert store.value("SELECT count(*) FROM calls") == 2


async def _open_close(cache: Cache) -> None:
    await cache.open()
    await cache.close()


@pytest.mark.parametrize("name", ["a'b.duckdb", "with [brackets] and *.duckdb", "spaß ?.duckdb"])
def test_odd_file_names(tmp_path: Path, using: Any, name: str) -> None:
    for expected in (5, 0):
        _, providers = using(ECHO, lambda p: many(p, 5), store=Store(tmp_path / name))
        assert providers.calls == expected
    assert [p for p in tmp_path.iterdir() if ".calls." in p.name] == []


def test_odd_texts_come_back_as_they_were(using: Any) -> None:
    texts = ["", "nul \0 in it", '"quotes" \\ and \n lines', "😀 ü", "x" * 3_000_000, "{}", "\u2028"]

    async def ask(providers: Providers) -> list[Reply]:
        return [await providers.ask("m")(user(text)) for text in texts]

    for asked in (len(texts), 0):
        replies, providers = using(ECHO, ask)
        assert providers.calls == asked
        assert [r.text for r in replies] == texts


def test_images_are_not_stored_but_tell_requests_apart(using: Any, store: Store) -> None:
    async def ask(providers: Providers) -> None:
        for letter in "AB":
            url = "data:image/png;base64," + letter * 5_000
            await providers.ask("m")([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}])

    _, providers = using({"m": {"kind": "mock", "replies": "a cat"}}, ask)
    assert providers.calls == 2
    urls = [row[0] for row in store.rows("SELECT request->>'$.messages[0].content[0].image_url.url' FROM calls")]
    assert all(url.startswith("data:image/png;base64,sha256=") and len(url) < 100 for url in urls)
    assert len(set(urls)) == 2


def test_a_failed_call_is_not_kept(using: Any, store: Store) -> None:
    with pytest.raises(Exception, match="scripted"):
        using({"m": {"kind": "mock", "replies": {"fail": "scripted"}}}, lambda p: p.ask("m")(user("x")))
    assert not store.exists


def test_when_replies_cannot_be_stored_the_run_stops_and_loses_nothing(using: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise StoreError("no space left")

    async def ask(providers: Providers) -> None:
        await many(providers, 3)
        await asyncio.sleep(0.2)
        await providers.ask("m")(user("one more"))

    with monkeypatch.context() as patched:
        patched.setattr(calls, "take_in", full)
        with pytest.raises((Stopped, StoreError), match="no space left"):
            using(ECHO, ask, interval=0.02)
    assert journal_files(store) != []
    _, providers = using(ECHO, lambda p: many(p, 3))
    assert providers.calls == 0
    assert journal_files(store) == []


def test_a_journal_that_cannot_be_written_stops_the_run(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Journal, line: bytes) -> None:
        raise StoreError("cannot write")

    monkeypatch.setattr(Journal, "append", full)
    with pytest.raises(Stopped, match="cannot write"):
        using(ECHO, lambda p: many(p, 1))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 2**64 - 1))
def test_known_is_a_set(old: list[int], new: list[int], other: int) -> None:
    known = Known(array("Q", sorted(old)))
    known.add(new)
    assert all(number in known for number in [*old, *new])
    assert (other in known) == (other in {*old, *new})


def test_known_stays_a_set_when_it_grows() -> None:
    known = Known(array("Q", [5, 7]))
    known.add(range(100, 60_000))
    known.add([3])
    assert all(n in known for n in (3, 5, 7, 100, 59_999))
    assert 6 not in known
    assert 60_000 not in known


def test_kill_9_repeats_no_committed_call(tmp_path: Path) -> None:
    """What was delivered before the kill is bought again at most a handful of times; here every answer is counted by the server."""
    code = """
        import asyncio, sys
        from prefdata.core.store import Store
        from prefdata.models.providers import Providers
        async def main():
            spec = {"kind": "openai", "model": "m", "base_url": sys.argv[1], "max_concurrency": 20}
            providers = Providers({"m": spec}, Store(sys.argv[2]))
            numbers = iter(range(300))
            async def worker():
                for n in numbers:
                    await providers.ask("m")([{"role": "user", "content": str(n)}])
            await asyncio.gather(*(worker() for _ in range(20)))
            await providers.close()
            print(providers.calls, providers.cached)
        asyncio.run(main())
    """
    store = tmp_path / "s.duckdb"

    def start(url: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), url, store], stdout=subprocess.PIPE, text=True, cwd=ROOT)

    with serving(lambda n, b: Answer(completion(b["messages"][0]["content"]), delay=0.02)) as seen:
        process = start(seen.url)
        while len(seen.bodies) < 150:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        asked = len(seen.bodies)
        out, _ = start(seen.url).communicate(timeout=60)
        bought, cached = map(int, out.split())
    assert bought + cached == 300
    assert cached >= asked - 20 - 4, "in flight when killed: 20; delivered and not kept: at most 4"
    assert len(seen.bodies) <= 300 + 20 + 4
    assert Store(store).value("SELECT count(DISTINCT id) FROM calls") == 300
    assert Store(store).value("SELECT count(*) FROM calls WHERE reply->>'text' <> request->>'$.messages[0].content'") == 0
