"""The scripted model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from models_server import user

from prefdata.core.errors import PrefdataError
from prefdata.core.store import Store
from prefdata.models.protocol import CallFailed, Reply
from prefdata.models.providers import Providers


def ask(using: Any, replies: Any, text: str = "hello", **given: Any) -> Reply:
    reply: Reply = using({"m": {"kind": "mock", "replies": replies}}, lambda p: p.ask("m")(user(text), **given))[0]
    return reply


def test_echo_and_text(using: Any) -> None:
    assert ask(using, "echo").text == "hello"
    assert ask(using, "always this").text == "always this"


def test_a_list_gives_each_sample_another(using: Any) -> None:
    replies = ["a", "b", "c"]
    first = [ask(using, replies, sample=n).text for n in range(4)]
    assert sorted(first[:3]) == replies
    assert first[3] == first[0]


def test_rules_are_tried_in_order(using: Any) -> None:
    rule = {"contains": {"cat": "meow", "dog": ["woof"], "parrot": "echo"}, "default": {"text": "?", "finish": "length"}}
    assert ask(using, rule, "a dog and a cat").text == "meow"
    assert ask(using, rule, "a dog").text == "woof"
    assert ask(using, rule, "parrot!").text == "parrot!"
    assert (ask(using, rule, "a fish").text, ask(using, rule, "a fish").finish) == ("?", "length")


def test_a_rule_without_a_match_fails(using: Any) -> None:
    with pytest.raises(CallFailed, match="no reply for this request"):
        ask(using, {"contains": {"cat": "meow"}})


def test_scripted_failures_and_logprobs(using: Any) -> None:
    with pytest.raises(CallFailed, match="out of order"):
        ask(using, {"fail": "out of order"})
    reply = ask(using, {"text": "A", "logprobs": {"B": -2.0, "A": -0.2}})
    assert reply.logprobs["content"][0]["token"] == "A"
    assert [t["token"] for t in reply.logprobs["content"][0]["top_logprobs"]] == ["A", "B"]


@pytest.mark.parametrize("name", ["script.yaml", "script.json"])
def test_a_script_in_a_file(using: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(json.dumps({"contains": {"hello": "from the file"}}))
    assert ask(using, str(file)).text == "from the file"


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        (5, "replies is 5"),
        ([], "needs  replies"),
        ([[]], "replies is "),
        ({"text": "x", "txt": 1}, "unknown key 'txt'"),
        ({"contains": 3}, "contains is 3"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_a_script_that_is_none_is_refused_at_the_start(store: Store, replies: Any, words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        Providers({"m": {"kind": "mock", "replies": replies}}, store).check("m", "ask")


def test_unknown_sampling_is_refused(using: Any) -> None:
    with pytest.raises(PrefdataError, match="Did you mean 'temperature'"):
        ask(using, "x", temprature=1)
    with pytest.raises(PrefdataError, match="Ask once for each draw"):
        ask(using, "x", n=3)


def test_the_order_of_callers_does_not_matter(tmp_path: Path) -> None:
    def run(name: str, numbers: list[int]) -> dict[int, str]:
        async def whole() -> dict[int, str]:
            providers = Providers({"m": {"kind": "mock", "replies": ["a", "b", "c", "d"]}}, Store(tmp_path / name))
            replies = await asyncio.gather(*(providers.ask("m")(user(str(n))) for n in numbers))
            await providers.close()
            return {n: r.text for n, r in zip(numbers, replies, strict=True)}

        return asyncio.run(whole())

    numbers = list(range(40))
    found = run("1", numbers)
    assert found == run("2", numbers[::-1])
    assert set(found.values()) == {"a", "b", "c", "d"}
