"""Scoring texts with a causal language model: boundaries, packing against separate passes, states, truncation, batching."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from families import FAMILIES, make_model, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from models_server import user
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefdata.core.errors import PrefdataError, Stopped
from prefdata.models.packing_engine import Scored
from prefdata.models.packing_tokens import Encoder
from prefdata.models.policy import LocalPolicy, states_of_pairs
from prefdata.models.protocol import CallFailed
from prefdata.models.spec import read

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "sample_data" / "tiny-lm"
GROUPS = [
    (user("What is the capital of France?"), ["The capital of France is Paris.", "Hello there.", "No", " Gladly. Tea is a drink."]),
    (user("Hi"), ["Hello there, how are you today?"]),
    ([*user("1 + 1 = ?"), {"role": "assistant", "content": "2"}, *user("12 * 12?")], ["144", "12 * 12 = 144", "\n\n144\n", "Grüße 你好"]),
]  # fmt: skip
CHES_TOLERANCE = 1e-3
"""Relative: sums of some ten states, each equal to about 1e-5."""


def policy(folder: Path, **more: Any) -> LocalPolicy:
    return LocalPolicy(read("m", {"kind": "transformers", "path": str(folder), "device": "cpu", **more}))


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = make_model(tmp_path_factory.mktemp(name) / "model", name)
        return made[name]

    return make


def tokens_of(folder: Path, messages: Any, text: str) -> tuple[list[int], list[int], bool]:
    """Prompt and response tokens by the encoder, whose boundary has tests of its own below."""
    encoder = Encoder.make(AutoTokenizer.from_pretrained(folder), chat=True, whole_turn=False)
    (prompt,), (response,) = encoder.prompts([messages]), encoder.responses([text])
    assert prompt is not None
    return prompt.tolist(), response.tolist(), bool(encoder.end)


@torch.no_grad()
def separate(folder: Path, messages: Any, text: str) -> dict[str, Any]:
    """One text, one pass, full logits."""
    prompt, response, ended = tokens_of(folder, messages, text)
    out = AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([prompt + response]), output_hidden_states=True)
    logps = torch.log_softmax(out.logits[0, len(prompt) - 1 : -1].double(), -1)
    # From the last prompt token to the one before the end of the turn; all where no token ends it.
    states = out.hidden_states[-1][0, len(prompt) - 1 : -1 if ended else None].double()
    return {
        "total": logps.gather(1, torch.tensor(response)[:, None]).sum().item(),
        "tokens": len(response),
        "entropy": -(logps.exp() * logps).sum(-1).mean().item(),
        "states": states.numpy(),
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_one_pass_equals_separate_passes(name: str, model_of: Callable[[str], Path]) -> None:
    """Sums to 1e-4 nats in float32, entropies and states likewise, whatever stands in the same row or batch."""
    folder = model_of(name)
    scored = policy(folder).score(GROUPS, states=True)
    pairs = {tuple(row[:3]): row[3:] for row in states_of_pairs(scored).iter_rows()}
    for number, (messages, texts) in enumerate(GROUPS):
        want = [separate(folder, messages, text) for text in texts]
        for row, one in zip(scored.filter(group=number).iter_rows(named=True), want, strict=True):
            assert row["logp"] == pytest.approx(one["total"], abs=1e-4)
            assert (row["tokens"], row["eos"], row["cut"], row["note"]) == (one["tokens"], True, False, None)
            assert row["entropy"] == pytest.approx(one["entropy"], abs=1e-4)
            assert row["state_rows"] == len(one["states"]) == one["tokens"]
        for one, other in permutations(range(len(texts)), 2):
            chosen, rejected = want[one]["states"], want[other]["states"]
            ches, ln_ches, last_inner, last_cosine = pairs[number, one, other]
            size = np.linalg.norm(chosen.sum(0)) * max(np.linalg.norm(chosen.sum(0)), np.linalg.norm(rejected.sum(0)))
            assert ches == pytest.approx(chosen.sum(0) @ rejected.sum(0) - chosen.sum(0) @ chosen.sum(0), abs=CHES_TOLERANCE * size)
            mean = chosen.mean(0) @ rejected.mean(0) - chosen.mean(0) @ chosen.mean(0)
            assert ln_ches == pytest.approx(mean, abs=CHES_TOLERANCE * np.linalg.norm(chosen.mean(0)) ** 2 + 1e-6)
            assert last_inner == pytest.approx(chosen[-1] @ rejected[-1], abs=CHES_TOLERANCE * np.linalg.norm(chosen[-1]) ** 2)
            norms = np.linalg.norm(chosen[-1]) * np.linalg.norm(rejected[-1])
            assert last_cosine == pytest.approx(chosen[-1] @ rejected[-1] / norms, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "text", ["Paris is it.", "144", "Hello there, how are you today?\n\nFine", "你好，世界", "def add(a, b):\n    return a"]
)
def test_tokens_are_those_of_the_whole_conversation(name: str, text: str) -> None:
    """What the template writes for the finished conversation, token for token up to the end of the turn."""
    tokenizer = make_tokenizer(FAMILIES[name])
    encoder = Encoder.make(tokenizer, chat=True, whole_turn=False)
    whole = tokenizer.apply_chat_template([*GROUPS[2][0], {"role": "assistant", "content": text}], tokenize=False)
    (prompt,), (response,) = encoder.prompts([GROUPS[2][0]]), encoder.responses([text])
    assert prompt is not None
    got = [*prompt.tolist(), *response.tolist()]
    assert tokenizer(whole, add_special_tokens=False)["input_ids"][: len(got)] == got
    assert response[-1] == encoder.end[-1]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20))
def test_whatever_the_text_nothing_of_it_is_lost(name: str, text: str) -> None:
    """Texts that would merge with what stands before them (line breaks, spaces) come out as they went in, with one end."""
    tokenizer = TOKENIZERS.setdefault(name, make_tokenizer(FAMILIES[name]))
    encoder = Encoder.make(tokenizer, chat=True, whole_turn=False)
    (prompt,), (response,) = encoder.prompts([GROUPS[0][0]]), encoder.responses([text])
    assert prompt is not None
    assert tuple(response[-len(encoder.end) :].tolist()) == encoder.end
    if "▁" not in text:
        shown = tokenizer.decode(prompt)
        assert tokenizer.decode([*prompt, *response[: -len(encoder.end)]]) == shown + ("" if text.startswith(" ") else encoder.gap) + text


TOKENIZERS: dict[str, Any] = {}


def test_line_breaks_do_not_merge_into_the_prompt() -> None:
    """Byte-level BPE has one token for two line breaks; the generation prompt ends with one and the response begins with one."""
    tokenizer = make_tokenizer(FAMILIES["qwen2"])
    encoder = Encoder.make(tokenizer, chat=True, whole_turn=False)
    whole = tokenizer.apply_chat_template([*user("Hi"), {"role": "assistant", "content": "\n Paris"}], tokenize=False)
    (prompt,), (response,) = encoder.prompts([user("Hi")]), encoder.responses(["\n Paris"])
    assert prompt is not None
    merged = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert merged[: len(prompt)] != prompt.tolist()  # the trap is there
    assert tokenizer.decode([*prompt, *response]) == whole.removesuffix("\n")


def test_the_start_of_a_response_is_not_marked_as_the_start_of_a_text() -> None:
    tokenizer = make_tokenizer(FAMILIES["zephyr"])
    (response,) = Encoder.make(tokenizer, chat=True, whole_turn=False).responses(["Paris"])
    assert tokenizer.convert_ids_to_tokens(tokenizer("Paris", add_special_tokens=False)["input_ids"])[0].startswith("▁")  # the trap
    assert not tokenizer.convert_ids_to_tokens(response.tolist())[0].startswith("▁")
    (spaced,) = Encoder.make(make_tokenizer(FAMILIES["llama2"]), chat=True, whole_turn=False).responses(["Paris"])
    assert tokenizer.convert_ids_to_tokens(spaced.tolist())[0].startswith("▁")


def test_an_empty_thought_of_the_template_counts_as_prompt() -> None:
    tokenizer = make_tokenizer(FAMILIES["qwen3"])
    encoder = Encoder.make(tokenizer, chat=True, whole_turn=False)
    (prompt,), (response,) = encoder.prompts([user("Hi")]), encoder.responses(["Paris"])
    assert prompt is not None
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert tokenizer.decode(response) == "Paris<|im_end|>"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_users_next_turn(name: str, model_of: Callable[[str], Path]) -> None:
    """After the assistant the user speaks: only their words count, without an end."""
    folder = model_of(name)
    turns = [*user("Hi"), {"role": "assistant", "content": "Hello there"}]
    (got,) = asyncio.run(policy(folder).logps(turns, ["No, that is wrong"]))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = tokenizer.apply_chat_template([*turns, *user("No, that is wrong")], tokenize=False)
    start = whole.rindex("No, that")
    encoded = tokenizer(whole[: start + len("No, that is wrong")], add_special_tokens=False, return_offsets_mapping=True)
    ids, first = encoded["input_ids"], next(n for n, (_, end) in enumerate(encoded["offset_mapping"]) if end > start)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0]
    logps = torch.log_softmax(logits[first - 1 : -1].double(), -1).gather(1, torch.tensor(ids[first:])[:, None])
    assert got.tokens == len(ids) - first
    assert got.total == pytest.approx(logps.sum().item(), abs=1e-4)
    assert isinstance(got, Scored)
    assert not got.eos


def test_the_prompt_is_computed_once_for_all_who_ask() -> None:
    """Four callers, one prompt: one row of P + sum(R) tokens, and equal texts once."""
    scorer = policy(TINY)
    texts = ["A drink.", "Coffee is a hot drink.", "No.", "A drink."]

    async def ask() -> list[Any]:
        found = await asyncio.gather(*(scorer.logps(user("What is coffee?"), [text]) for text in texts))
        await scorer.close()
        return [one for (one,) in found]

    got = asyncio.run(ask())
    assert scorer._gathered.rounds == [4]
    prompt = len(tokens_of(TINY, user("What is coffee?"), "")[0])
    assert scorer._loaded is not None
    assert scorer._loaded.batches == [prompt + sum(one.tokens for one in got[:3])]
    assert got[3] == got[0]
    alone = asyncio.run(policy(TINY, batch_tokens=1).logps(user("What is coffee?"), texts))
    assert [one.total for one in got] == pytest.approx([one.total for one in alone], abs=1e-4)


def test_batches_keep_to_their_tokens() -> None:
    rows = [(user(f"Question {n}: " + "why? " * (n % 7)), ["Because. " * (1 + n % 5), "No."]) for n in range(60)]
    small, large = policy(TINY, batch_tokens=200), policy(TINY, batch_tokens=100_000)
    one, other = small.score(rows), large.score(rows)
    assert small._loaded is not None
    assert large._loaded is not None
    assert max(small._loaded.batches) <= 200
    assert len(large._loaded.batches) == 1
    assert len(small._loaded.batches) < 60  # several rows share a batch
    assert one["logp"].to_list() == pytest.approx(other["logp"].to_list(), abs=1e-4)
    assert one.drop("logp", "entropy").equals(other.drop("logp", "entropy"))


def test_a_window_that_does_not_reach_the_prompt_is_heeded(model_of: Callable[[str], Path]) -> None:
    """A model that looks back 16 tokens: longer texts are computed apart, and still in one batch."""
    folder = model_of("gemma2")
    groups = [(user("Hello there, how are you today? " * 4), ["The capital of France is Paris.", "No"])]
    scored = policy(folder).score(groups)
    assert scored["logp"].to_list() == pytest.approx([separate(folder, groups[0][0], t)["total"] for t in groups[0][1]], abs=1e-4)


def test_states_by_hand() -> None:
    """Two chosen rows [1,0] [0,1] [1,1] against [1,1] [2,0]: sums (2,2) and (3,1), so 8 - 8 = 0; means give 4/3 - 8/9."""
    scored = pl.DataFrame(
        {"group": [0, 0], "text": [0, 1], "state_rows": [3, 2], "inner": [[8.0, 8.0], [8.0, 10.0]], "last_inner": [[2.0, 2.0], [2.0, 4.0]]},
        schema_overrides={"group": pl.UInt32, "text": pl.UInt32},
    )
    found = states_of_pairs(scored).rows(named=True)
    assert (found[0]["w"], found[0]["l"], found[0]["ches"]) == (0, 1, 0.0)
    assert found[0]["ln_ches"] == pytest.approx(4 / 3 - 8 / 9)
    assert found[0]["last_cosine"] == pytest.approx(2 / np.sqrt(2 * 4))
    assert (found[1]["ches"], found[1]["ln_ches"]) == (-2.0, pytest.approx(8 / 6 - 10 / 4))


@pytest.mark.parametrize(
    ("how", "notes"),
    [
        ("refuse", [None, "prompt plus response have 33 tokens and the limit is 30", None]),
        ("keep_start", [None, None, None]),
        ("keep_end", [None, None, None]),
    ],
)
def test_truncation_is_explicit_and_counted(how: str, notes: list[str | None], caplog: pytest.LogCaptureFixture) -> None:
    """One text that is too long does not take the others with it."""
    prompt = len(tokens_of(TINY, user("Tell me about tea, please"), "")[0])
    word = next(w for w in ("tea", "the", "is", "a") if len(tokens_of(TINY, user("x"), " ".join([w] * 10))[1]) == 11)
    long = " ".join([word] * (33 - prompt - 1))
    scorer = policy(TINY, max_length=30, truncation=how)
    got = scorer.score([(user("Tell me about tea, please"), ["No.", long, "Tea."])])
    for note, want in zip(got["note"], notes, strict=True):
        assert (note is None) == (want is None)
        assert want is None or want in note
    cut = {"refuse": [False, None, False], "keep_start": [False, True, False], "keep_end": [True, True, True]}[how]
    assert got["cut"].to_list() == cut
    assert got["eos"].to_list() == {"refuse": [True, None, True], "keep_start": [True, False, True], "keep_end": [True, True, True]}[how]
    assert got["tokens"][1] == {"refuse": None, "keep_start": 30 - prompt, "keep_end": 33 - prompt}[how]
    counted = [scorer.counts[name] for name in ("scored", "refused", "cut")]
    assert counted == [2 + (how != "refuse"), int(how == "refuse"), cut.count(True)]
    with caplog.at_level(logging.WARNING, logger="prefdata.models"):
        asyncio.run(scorer.close())
    assert ("1 refused" if how == "refuse" else f"{cut.count(True)} cut") in caplog.text


def test_what_cannot_be_scored_fails_alone(model_of: Callable[[str], Path]) -> None:
    scorer = policy(model_of("gemma2"))

    async def ask() -> list[Any]:
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
        asked = [user("Hi"), [{"role": "system", "content": "x"}, *user("Hi")], image, user("word " * 600)]
        return list(
            await asyncio.gather(*(scorer.logps(m, ["Hello"]) for m in asked), scorer.logps(user("Hi"), []), return_exceptions=True)
        )

    good, template, image, long, none = asyncio.run(ask())
    assert good[0].tokens > 0
    assert none == []
    for failure, words in ((template, "template refuses"), (image, "read text only"), (long, "the limit is 512")):
        assert isinstance(failure, CallFailed)
        assert words in str(failure)


def test_an_empty_response_is_the_probability_of_ending_at_once() -> None:
    (got,) = asyncio.run(policy(TINY).logps(user("Hi"), [""]))
    assert got.tokens == 1
    assert got.total == pytest.approx(separate(TINY, user("Hi"), "")["total"], abs=1e-4)


def test_a_model_without_a_template_reads_on(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "llama3")
    (folder / "chat_template.jinja").unlink()
    (got,) = asyncio.run(policy(folder).logps(user("The capital of France is"), [" Paris."]))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The capital of France is Paris.")["input_ids"]
    assert got.tokens == len(tokenizer(" Paris.", add_special_tokens=False)["input_ids"]) + 1
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[*ids, tokenizer.eos_token_id]])).logits[0].double()
    want = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor([*ids[1:], tokenizer.eos_token_id])[:, None])[-got.tokens :]
    assert got.total == pytest.approx(want.sum().item(), abs=1e-4)


def test_bfloat16_is_near_and_float32_on_demand() -> None:
    half, full = policy(TINY, dtype="bfloat16").score(GROUPS), policy(TINY).score(GROUPS)
    assert half["logp"].to_list() == pytest.approx(full["logp"].to_list(), rel=0.03)
    assert half["logp"].to_list() != full["logp"].to_list()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nonsense"), "does not load"),
        (lambda folder: _without(folder, "model.norm.weight"), "lacks the weights 'model.norm.weight'"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    ],
)
def test_a_model_that_cannot_be_used_stops_the_run(tmp_path: Path, break_it: Callable[[Path], Any], words: str) -> None:
    """Weights that are not in the files would be filled with random numbers, and so would the scores."""
    folder = make_model(tmp_path / "m", "llama3")
    break_it(folder)
    with pytest.raises(Stopped, match=words):
        asyncio.run(policy(folder).logps(user("Hi"), ["Hello"]))
    with pytest.raises(Stopped, match=words):
        policy(folder).score([(user("Hi"), ["Hello"])])


def _without(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = policy(TINY)
    rows = [(user(f"Question {n}"), ["Yes.", "No."]) for n in range(6)]
    want = scorer.score(rows)
    engine = scorer._engine()
    real = engine._batch

    def tight(some: list[Any], shared: bool, states: bool) -> Any:
        if len(some) > 2:
            raise torch.OutOfMemoryError("too much")
        return real(some, shared, states)

    monkeypatch.setattr(engine, "_batch", tight)
    assert scorer.score(rows)["logp"].to_list() == pytest.approx(want["logp"].to_list(), abs=1e-4)
    monkeypatch.setattr(engine, "_batch", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("too much")))
    assert scorer.score(rows)["note"].str.contains("OutOfMemoryError").all()
    with pytest.raises(PrefdataError, match="too much"):
        asyncio.run(scorer.logps(user("Hi"), ["Hello"]))


def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    """No bar while weights load, no warning about a long text."""
    code = (
        "import asyncio, sys\nfrom prefdata.models.spec import read\nfrom prefdata.models.policy import LocalPolicy\n"
        f"p = LocalPolicy(read('m', {{'kind': 'transformers', 'path': {str(TINY)!r}, 'device': 'cpu'}}))\n"
        "p.score([([{'role': 'user', 'content': 'x ' * 3000}], ['Hello'])])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("", "")
