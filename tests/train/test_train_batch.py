"""Order of rows, tensors of a batch, and one pass over a shared prompt against separate passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_toys import make_model, toy_pairs
from transformers import AutoModelForCausalLM

from prefdata.models.packing import collate
from prefdata.models.packing_model import can_share_prefix, find_head, load_tokenizer
from prefdata.models.packing_tokens import Encoder
from prefdata.train.batch import by_length, epoch_batches
from prefdata.train.config import TrainConfig
from prefdata.train.data import Row
from prefdata.train.forward import Forward
from prefdata.train.model import load_model
from prefdata.train.objective import resolve


def rows_for(model: Path, count: int = 6) -> list[Row]:
    encoder = Encoder.make(load_tokenizer(model), chat=False, whole_turn=False)
    pairs = toy_pairs(count)
    prompts = encoder.prompts([p["prompt"] for p in pairs])
    sides = [encoder.responses([p[side] for p in pairs]) for side in ("chosen", "rejected")]
    return [Row(p["pair_id"], x, (w, y)) for p, x, w, y in zip(pairs, prompts, *sides, strict=True) if x is not None]


def forward_for(model: Path, shared: bool) -> Forward:
    loaded = load_model(model, "policy", load_tokenizer(model), TrainConfig(device="cpu"))
    return Forward(loaded, find_head(loaded), resolve("cpo", {}), shared)


def naive(model: Path, row: Row) -> list[float]:
    """Full logits of one sequence at a time."""
    lm = AutoModelForCausalLM.from_pretrained(model).eval()
    sums = []
    for response in row.responses:
        ids = torch.tensor(np.concatenate([row.prompt, response]))[None].long()
        with torch.no_grad():
            logps = torch.log_softmax(lm(ids).logits[0, :-1], -1)
        picked = logps.gather(1, ids[0, 1:, None])[:, 0]
        sums.append(picked[len(row.prompt) - 1 :].sum().item())
    return sums


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
@pytest.mark.parametrize("shared", [True, False])
def test_log_probs_equal_one_sequence_at_a_time(tmp_path: Path, arch: str, shared: bool) -> None:
    model = make_model(tmp_path / "m", arch=arch)
    rows = rows_for(model)
    with torch.no_grad():
        got = forward_for(model, shared).rows(rows, None)
    for i, row in enumerate(rows):
        assert [got.values[side][i].item() for side in ("chosen", "rejected")] == pytest.approx(naive(model, row), abs=1e-4)
        assert [got.values[f"n_{side}"][i] for side in ("chosen", "rejected")] == [len(r) for r in row.responses]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_shared_prompt_equals_separate_passes(tmp_path: Path, attention: str) -> None:
    """Per token to 1e-5 in float32, and the gradients as well; the shared pass computes fewer tokens."""
    model = make_model(tmp_path / "m")
    rows = rows_for(model)
    together, apart = forward_for(model, True), forward_for(model, False)
    together.loaded.core.set_attn_implementation(attention)
    assert together.loaded.core.config._attn_implementation == attention
    assert can_share_prefix(together.loaded)
    batches = collate(rows, True), collate(rows, False)
    assert batches[0].tokens == batches[1].tokens - sum(len(row.prompt) for row in rows)
    assert batches[0].mask is not None
    assert batches[1].mask is None
    got, want = together.response_logps(batches[0]), apart.response_logps(batches[1])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    got.sum().backward()
    want.sum().backward()
    for a, b in zip(together.loaded.model.parameters(), apart.loaded.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_gradient_equals_full_logits(tmp_path: Path, tied: bool) -> None:
    """Through the chunked head and the shared prompt, also where the head is the input embedding."""
    model = make_model(tmp_path / "m", tie_word_embeddings=tied)
    rows = rows_for(model, 4)
    forward = forward_for(model, True)
    forward.response_logps(collate(rows, True)).sum().backward()
    lm = AutoModelForCausalLM.from_pretrained(model)
    for row in rows:
        for response in row.responses:
            ids = torch.tensor(np.concatenate([row.prompt, response]))[None].long()
            logps = torch.log_softmax(lm(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])
            logps[len(row.prompt) - 1 :].sum().backward()
    want = dict(lm.named_parameters())
    for name, parameter in forward.loaded.trainable().items():
        torch.testing.assert_close(parameter.grad, want[name].grad, atol=1e-4, rtol=1e-4)


def test_a_model_that_sees_backwards_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check must fail where the mask is not heeded."""
    loaded = forward_for(make_model(tmp_path / "m"), True).loaded
    body = loaded.body
    monkeypatch.setattr(loaded, "body", lambda **given: body(**{**given, "attention_mask": None}))
    assert not can_share_prefix(loaded)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(0, 3), st.integers(0, 3), st.integers(1, 40))
def test_every_row_once_per_epoch(lengths: list[int], seed: int, epoch: int, batch: int) -> None:
    got = epoch_batches(lengths, seed, epoch, batch, True)
    assert sorted(i for b in got for i in b) == list(range(len(lengths)))
    assert sum(len(b) < batch for b in got) <= 1
    assert got == epoch_batches(lengths, seed, epoch, batch, True)


def test_order_differs_by_seed_and_epoch_and_can_be_kept() -> None:
    lengths = list(range(1, 101))
    orders = {str(epoch_batches(lengths, seed, epoch, 8, True)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert [i for b in epoch_batches(lengths, 0, 0, 8, False) for i in b] == list(range(100))


def test_like_lengths_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(10, 500, 2000).tolist()

    def padding(batches: list[list[int]]) -> float:
        return sum(max(lengths[i] for i in b) * len(b) for b in batches) / sum(lengths) - 1

    shuffled = np.random.default_rng(1).permutation(2000).tolist()
    plain = [shuffled[i : i + 8] for i in range(0, 2000, 8)]
    assert padding(epoch_batches(lengths, 0, 0, 8, True)) < 0.15 * padding(plain)


def test_longest_first() -> None:
    rows = [Row(str(n), np.ones(n, np.int32), (np.ones(2, np.int32), np.ones(1, np.int32))) for n in (3, 9, 5)]
    assert list(by_length(rows, 2)) == [[1, 2], [0]]
