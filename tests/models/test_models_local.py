"""Transformers models in this process, on the tiny model of sample_data."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models_server import user

from prefdata.core.errors import BadValue, PrefdataError, Stopped
from prefdata.core.store import Store
from prefdata.models import fingerprint
from prefdata.models.local import Local
from prefdata.models.protocol import CallFailed, Reply
from prefdata.models.providers import Providers

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "sample_data" / "tiny-lm"
SPEC = {"kind": "transformers", "path": str(TINY), "max_tokens": 24, "device": "cpu"}
QUESTIONS = [
    "What is coffee?",
    "List three fruits.",
    "Tell me about the moon, please, and take your time.",
    "Hi",
    "2 + 2?",
    "Who wrote Hamlet?",
]


async def each(providers: Providers, **sampling: Any) -> list[Reply]:
    return list(await asyncio.gather(*(providers.ask("m")(user(q), **sampling) for q in QUESTIONS)))


def test_requests_that_arrive_together_share_a_batch(using: Any) -> None:
    async def ask(providers: Providers) -> tuple[list[Reply], list[int]]:
        replies = await each(providers, temperature=0)
        backend = providers._backends[0]
        assert isinstance(backend, Local)
        return replies, backend.batches

    (replies, batches), _ = using({"m": SPEC}, ask)
    assert len(batches) < len(QUESTIONS)
    assert sum(batches) == len(QUESTIONS)
    assert all(r.text and r.finish in ("stop", "length") and r.tokens_in > 0 < r.tokens_out <= 24 for r in replies)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9, "top_k": 50, "min_p": 0.01}]
)
def test_what_else_is_in_the_batch_does_not_matter(tmp_path: Path, using: Any, sampling: dict[str, Any]) -> None:
    together, _ = using({"m": SPEC}, lambda p: each(p, **sampling), store=Store(tmp_path / "1.duckdb"))
    alone, _ = using({"m": {**SPEC, "batch_size": 1}}, lambda p: each(p, **sampling), store=Store(tmp_path / "2.duckdb"))
    assert [r.text for r in together] == [r.text for r in alone]


def test_samples_and_seeds_differ(using: Any) -> None:
    async def ask(providers: Providers) -> list[str]:
        given = [{"sample": n} for n in range(6)] + [{"seed": n} for n in range(6)]
        return [r.text for r in await asyncio.gather(*(providers.ask("m")(user("What is coffee?"), temperature=1.5, **g) for g in given))]

    texts, _ = using({"m": SPEC}, ask)
    assert len(set(texts)) > 6


def test_greedy_answers_equal_those_of_generate(using: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    replies, _ = using({"m": SPEC}, lambda p: each(p, temperature=0))
    tokenizer, model = AutoTokenizer.from_pretrained(TINY), AutoModelForCausalLM.from_pretrained(TINY, dtype="float32")
    for question, reply in zip(QUESTIONS, replies, strict=True):
        ids = tokenizer.apply_chat_template(user(question), add_generation_prompt=True, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=24, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert reply.text == tokenizer.decode(out, skip_special_tokens=True)
        assert reply.tokens_in == ids["input_ids"].shape[1]
        assert reply.tokens_out == len(out)


def test_sampling_follows_the_models_distribution(using: Any) -> None:
    """400 draws of the first token: the share of the likeliest is its probability, within four standard errors."""

    async def ask(providers: Providers) -> list[Reply]:
        draws = (providers.ask("m")(user("What is coffee?"), max_tokens=1, logprobs=True, top_logprobs=2, sample=n) for n in range(400))
        return list(await asyncio.gather(*draws))

    replies, _ = using({"m": {**SPEC, "batch_size": 200}}, ask)
    top = replies[0].logprobs["content"][0]["top_logprobs"][0]
    p = float(torch.tensor(top["logprob"]).exp())
    share = sum(r.logprobs["content"][0]["token"] == top["token"] for r in replies) / 400
    assert abs(share - p) <= 4 * (p * (1 - p) / 400) ** 0.5 + 1e-9


def test_logprobs_equal_a_plain_forward_pass(using: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reply, _ = using({"m": SPEC}, lambda p: p.ask("m")(user("Hi"), temperature=0, logprobs=True, top_logprobs=3))
    tokenizer, model = AutoTokenizer.from_pretrained(TINY), AutoModelForCausalLM.from_pretrained(TINY, dtype="float32")
    ids = tokenizer.apply_chat_template(user("Hi"), add_generation_prompt=True, return_tensors="pt")["input_ids"]
    expected = torch.log_softmax(model(ids).logits[0, -1].detach(), -1)
    first = reply.logprobs["content"][0]
    assert len(reply.logprobs["content"]) == reply.tokens_out
    assert [t["logprob"] for t in first["top_logprobs"]] == pytest.approx(expected.topk(3).values.tolist(), abs=1e-4)
    assert first["logprob"] == pytest.approx(float(expected.max()), abs=1e-4)


def test_stop_texts_end_the_answer_before_them(using: Any) -> None:
    whole, _ = using({"m": SPEC}, lambda p: p.ask("m")(user("What is coffee?"), temperature=0))
    word = whole.text.split()[1]
    cut, _ = using({"m": SPEC}, lambda p: p.ask("m")(user("What is coffee?"), temperature=0, stop=[word, "zzz"]))
    assert cut.text == whole.text[: whole.text.index(word)]
    assert cut.finish == "stop"


@pytest.mark.parametrize(
    ("messages", "sampling", "words"),
    [
        (user("x " * 3000), {}, "this model takes from 1 to 1023"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}], {}, "read text only"),
        ([{"role": "clown", "content": "x"}], {}, "Unknown role"),
    ],
)
def test_what_the_model_cannot_read_fails_alone(using: Any, messages: Any, sampling: Any, words: str) -> None:
    async def ask(providers: Providers) -> list[Any]:
        return await asyncio.gather(providers.ask("m")(messages, **sampling), providers.ask("m")(user("Hi")), return_exceptions=True)

    (bad, good), _ = using({"m": SPEC}, ask)
    assert isinstance(bad, CallFailed)
    assert words in str(bad)
    assert isinstance(good, Reply)


def test_parts_of_text_are_read_and_wishes_are_passed_over(using: Any) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "coffee?"}]}]
    whole, _ = using({"m": SPEC}, lambda p: p.ask("m")(user("What is coffee?"), temperature=0))
    reply, _ = using({"m": SPEC}, lambda p: p.ask("m")(parts, temperature=0, response_format={"type": "json_object"}))
    assert reply.text == whole.text
    with pytest.raises(BadValue, match="logit_bias"):
        using({"m": SPEC}, lambda p: p.ask("m")(parts, logit_bias={"1": 2}))


def test_the_second_run_loads_no_model(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    using({"m": SPEC}, lambda p: each(p, temperature=0.7))
    monkeypatch.setattr("prefdata.models.local.Model", lambda spec: pytest.fail("loaded"))
    _, providers = using({"m": SPEC}, lambda p: each(p, temperature=0.7))
    assert (providers.calls, providers.cached) == (0, len(QUESTIONS))


def test_a_broken_model_folder_stops_the_run(using: Any, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(TINY, folder)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Stopped, match="cannot be loaded"):
        using({"m": {**SPEC, "path": str(folder)}}, lambda p: each(p))


def test_the_fingerprint_changes_with_the_files_and_not_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(TINY, folder)
    first = fingerprint.fingerprint(folder)
    assert fingerprint.fingerprint(TINY) == first
    (folder / "README.md").write_text("other words")
    assert fingerprint.fingerprint(folder) == first
    monkeypatch.setattr(fingerprint, "_hash", lambda file: pytest.fail(f"{file} was read again"))
    assert fingerprint.fingerprint(folder) == first
    monkeypatch.undo()
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    assert fingerprint.fingerprint(folder) != first


def test_a_folder_that_is_none_is_named(store: Store) -> None:
    with pytest.raises(PrefdataError, match=r"no model folder .* at '\./nowhere'"):
        Providers({"m": {**SPEC, "path": "./nowhere"}}, store).check("m", "ask")


def test_torch_is_imported_only_when_a_local_model_is_asked() -> None:
    heavy = ("torch", "transformers", "pandas", "pyarrow")
    code = f"import sys, prefdata.models.providers, prefdata.models.openai; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "[]"
