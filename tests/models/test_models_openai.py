"""The client against real HTTP servers that fail in every way we know."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from models_server import Answer, Seen, completion, serving, user

from prefdata.core.errors import Stopped
from prefdata.core.store import Store
from prefdata.models.openai import _retry_after
from prefdata.models.protocol import CallFailed
from prefdata.models.providers import Providers

KEY = "sk-test-SECRET0123456789"


def spec(seen: Seen, **more: Any) -> dict[str, Any]:
    return {"kind": "openai", "model": "m", "base_url": seen.url, **more}


async def one(providers: Providers, text: str = "hello", **sampling: Any) -> Any:
    return await providers.ask("m")(user(text), **sampling)


def test_the_body_and_the_reply(using: Any) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "v", "schema": {"type": "object"}}}
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2000}}]
    logprobs = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": []}]}
    body = completion("it is", reasoning_content="hm")
    body["choices"][0]["logprobs"] = logprobs
    with serving(lambda n, b: Answer(body)) as seen:

        async def ask(providers: Providers) -> Any:
            messages = [{"role": "user", "content": parts}]
            return await providers.ask("m")(messages, response_format=schema, max_tokens=7, sample=3, seed=5, extra={"guided": True})

        reply, providers = using({"m": spec(seen, temperature=0.5, price={"input": 1, "output": 10})}, ask)
    sent = seen.bodies[0]
    assert sent == {
        "model": "m", "messages": [{"role": "user", "content": parts}], "temperature": 0.5, "max_tokens": 7,
        "response_format": schema, "seed": 8, "guided": True,
    }  # fmt: skip
    assert (reply.text, reply.model, reply.finish, reply.tokens_in, reply.tokens_out) == ("it is", "served-model", "stop", 10, 5)
    assert (reply.logprobs, reply.reasoning, reply.cached) == (logprobs, "hm", False)
    assert reply.cost == pytest.approx((10 * 1 + 5 * 10) / 1e6) == providers.spent
    assert (providers.calls, providers.failed, providers.tokens) == (1, 0, (10, 5))


@pytest.mark.parametrize(
    "failure",
    [
        Answer({"error": {"message": "slow down"}}, 429),
        Answer({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.05"}),
        Answer("oops", 500),
        Answer("oops", 502),
        Answer({"error": "overloaded"}, 529),
        Answer(json.dumps(completion("x"))[:40]),
        Answer(""),
        Answer({"choices": []}),
        Answer({"choices": [{"message": None}]}),
        Answer({"choices": [{"message": {"content": 5}}]}),
        Answer([1]),
        Answer({"error": {"message": "upstream", "code": 502}}),
        Answer(drop=True),
        Answer(completion("late"), delay=5),
    ],
    ids=lambda a: f"{a.status}-{str(a.body)[:20]}-{'drop' if a.drop else ''}{a.delay or ''}",
)
def test_what_may_pass_is_tried_again(using: Any, failure: Answer) -> None:
    with serving(lambda n, b: failure if n < 2 else Answer(completion("at last"))) as seen:
        reply, providers = using({"m": spec(seen, timeout=0.3)}, one)
    assert reply.text == "at last"
    assert (len(seen.bodies), providers.calls, providers.retries, providers.failed) == (3, 1, 2, 0)


@pytest.mark.parametrize(("status", "body", "words"), [
    (400, {"error": {"message": "context length exceeded"}}, "the server says 400: context length exceeded"),
    (422, {"detail": [{"msg": "bad field"}]}, "bad field"),
    (403, {"error": {"message": "flagged"}}, "403: flagged"),
    (200, {"error": {"message": "no such thing", "code": 400}}, "400: no such thing"),
])  # fmt: skip
def test_what_will_not_pass_fails_its_row_with_the_servers_words(using: Any, status: int, body: Any, words: str) -> None:
    async def ask(providers: Providers) -> Any:
        with pytest.raises(CallFailed) as caught:
            await one(providers, "bad")
        return str(caught.value), await one(providers, "good")

    with serving(lambda n, b: Answer(body, status) if b["messages"][0]["content"] == "bad" else Answer(completion())) as seen:
        (said, reply), providers = using({"m": spec(seen)}, ask)
    assert words in said
    assert reply.text == "fine"
    assert (len(seen.bodies), providers.calls, providers.failed) == (2, 1, 1)


def test_a_request_that_keeps_failing_fails_after_its_attempts(using: Any) -> None:
    with serving(lambda n, b: Answer({"error": {"message": "still broken"}}, 500)) as seen, pytest.raises(CallFailed) as caught:
        using({"m": spec(seen, retries=3)}, one)
    assert "gave up after 4 attempts" in str(caught.value)
    assert "still broken" in str(caught.value)
    assert len(seen.bodies) == 4


@pytest.mark.parametrize(("status", "body", "headers"), [
    (401, {"error": {"message": "bad key"}}, {}),
    (404, {"detail": "Not Found"}, {}),
    (402, {"error": "pay"}, {}),
    (429, {"error": {"message": "quota", "code": "insufficient_quota"}}, {}),
    (429, {"error": {"message": "tomorrow"}}, {"Retry-After": "7200"}),
    (307, "", {"Location": "http://elsewhere/"}),
])  # fmt: skip
def test_what_no_request_can_pass_stops_the_run(using: Any, status: int, body: Any, headers: dict[str, str]) -> None:
    with serving(lambda n, b: Answer(body, status, headers)) as seen, pytest.raises(Stopped, match="stopped, since"):
        using({"m": spec(seen)}, one)
    assert len(seen.bodies) == 1


def test_a_server_that_is_not_there_stops_the_run(using: Any) -> None:
    with pytest.raises(Stopped, match=r"cannot be reached: no connection to http://127.0.0.1:9/v1"):
        using({"m": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "retries": 2}}, one)


def test_the_key_is_sent_and_appears_nowhere_else(using: Any, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    texts = [f"you sent {KEY}", "Bearer " + KEY, "wrong key sk-test***6789 given"]

    def script(number: int, body: dict[str, Any]) -> Answer:
        return Answer(texts[number], 500) if number < 3 else Answer({"error": {"message": f"no: {KEY} {KEY[:12]}***"}}, 400)

    async def ask(providers: Providers) -> str:
        with pytest.raises(CallFailed) as caught:
            await one(providers)
        return repr(caught.value) + str(providers.identity("m"))

    with serving(script) as seen:
        said, _ = using({"m": spec(seen, api_key_env="MY_KEY")}, ask)
    with serving() as seen:
        using({"m": spec(seen, api_key_env="MY_KEY")}, one)
    assert seen.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = b"".join(p.read_bytes() for p in store.path.parent.rglob("*") if p.is_file())
    assert b"hello" in files
    for text in (said, caplog.text, files.decode(errors="replace")):
        assert "SECRET" not in text
        assert "sk-test" not in text


def test_identical_requests_in_flight_are_asked_once(using: Any) -> None:
    async def ask(providers: Providers) -> Any:
        return await asyncio.gather(*(one(providers) for _ in range(20)), one(providers, sample=1), one(providers, temperature=1))

    with serving(lambda n, b: Answer(completion(f"answer {n}"), delay=0.1)) as seen:
        replies, providers = using({"m": spec(seen, price={"input": 1, "output": 1})}, ask)
    assert len(seen.bodies) == 3
    assert len({r.text for r in replies[:20]}) == 1
    assert [r.cached for r in replies[:20]].count(False) == 1
    assert sum(r.cost for r in replies) == pytest.approx(providers.spent)
    assert (providers.calls, providers.cached) == (3, 19)


def test_a_retry_goes_before_first_attempts(using: Any) -> None:
    failed: set[str] = set()

    def script(number: int, body: dict[str, Any]) -> Answer:
        text = body["messages"][0]["content"]
        if text == "0" and text not in failed:
            failed.add(text)
            return Answer("", 500)
        return Answer(completion(), delay=0.02)

    async def ask(providers: Providers) -> None:
        await asyncio.gather(*(one(providers, str(n)) for n in range(60)))

    with serving(script) as seen:
        using({"m": spec(seen, max_concurrency=2)}, ask)
    order = [body["messages"][0]["content"] for body in seen.bodies]
    assert order.index("0", 1) < 12


def test_no_more_than_max_concurrency_at_once(using: Any) -> None:
    async def ask(providers: Providers) -> None:
        await asyncio.gather(*(one(providers, str(n)) for n in range(40)))

    with serving(lambda n, b: Answer(completion(), delay=0.02)) as seen:
        using({"m": spec(seen, max_concurrency=4)}, ask)
    assert seen.most == 4
    assert len(seen.bodies) == 40


def test_half_characters_and_infinities_from_the_server_can_be_stored(using: Any) -> None:
    body = json.dumps(completion("a \ud83d b"))[:-1] + ', "x": NaN}'
    body = body.replace('"finish_reason"', '"logprobs": {"content": [{"logprob": -Infinity}]}, "finish_reason"')

    async def ask(providers: Providers) -> Any:
        return await one(providers)

    with serving(lambda n, b: Answer(body)) as seen:
        first, _ = using({"m": spec(seen)}, ask)
        second, _ = using({"m": spec(seen)}, ask)
    assert first.text == second.text == "a \ufffd b"
    assert first.logprobs == second.logprobs == {"content": [{"logprob": -9999.0}]}
    assert (second.cached, len(seen.bodies)) == (True, 1)


def test_a_refusal_is_told_from_an_answer(using: Any) -> None:
    with serving(lambda n, b: Answer(completion(None, refusal="I will not"))) as seen:
        reply, _ = using({"m": spec(seen)}, one)
    assert (reply.text, reply.finish) == ("I will not", "refusal")


def test_reasoning_models_get_the_limit_under_their_name(using: Any) -> None:
    def script(number: int, body: dict[str, Any]) -> Answer:
        if "max_tokens" in body:
            return Answer({"error": {"message": "Unsupported parameter: use 'max_completion_tokens'"}}, 400)
        return Answer(completion())

    async def ask(providers: Providers) -> None:
        await asyncio.gather(*(one(providers, str(n), max_tokens=9) for n in range(5)))
        await one(providers, "later", max_tokens=9)

    with serving(script) as seen:
        _, providers = using({"m": spec(seen)}, ask)
    assert seen.bodies[-1]["max_completion_tokens"] == 9
    assert (providers.calls, providers.failed, len(seen.bodies)) == (6, 0, 11)


def test_without_usage_a_paid_call_is_estimated(using: Any) -> None:
    body = completion("x" * 400)
    del body["usage"]
    with serving(lambda n, b: Answer(body)) as seen:
        reply, providers = using({"m": spec(seen, price={"input": 1, "output": 1})}, one)
    assert reply.tokens_out == 101  # 400 bytes / 4, rounded up
    assert providers.spent > 100e-6


def test_rpm_spaces_the_calls(using: Any) -> None:
    async def ask(providers: Providers) -> None:
        await asyncio.gather(*(one(providers, str(n)) for n in range(11)))

    with serving() as seen:
        using({"m": spec(seen, rpm=1200)}, ask)
    # 1,200 a minute are 50 ms apart; eleven calls have ten gaps
    assert seen.times[-1] - seen.times[0] >= 0.45


def test_tpm_counts_what_was_used(using: Any) -> None:
    async def ask(providers: Providers) -> float:
        started = time.monotonic()
        for number in range(4):
            await one(providers, str(number), max_tokens=10)
        return time.monotonic() - started

    with serving(lambda n, b: Answer(completion(tokens_in=100, tokens_out=100))) as seen:
        seconds, _ = using({"m": spec(seen, tpm=60_000)}, ask)
    # 1,000 a second; each of the first three calls is to be paid off (200) before the next may start
    assert seconds >= 0.55


def test_unsent_calls_are_dropped_and_sent_ones_are_kept_when_callers_leave(using: Any, store: Store) -> None:
    async def ask(providers: Providers) -> None:
        tasks = [asyncio.create_task(one(providers, str(n))) for n in range(10)]
        while len(seen.bodies) < 2:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with serving(lambda n, b: Answer(completion(), delay=0.2)) as seen:
        _, providers = using({"m": spec(seen, max_concurrency=2)}, ask)
    assert len(seen.bodies) == 2
    assert store.value("SELECT count(*) FROM calls") == 2 == providers.calls


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert _retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert _retry_after({"retry-after": date}) == pytest.approx(60, abs=3)


def test_retry_after_is_honoured(using: Any) -> None:
    with serving(lambda n, b: Answer("", 429, {"Retry-After": "0.4"}) if n == 0 else Answer(completion())) as seen:
        using({"m": spec(seen)}, one)
    assert seen.times[1] - seen.times[0] >= 0.39
