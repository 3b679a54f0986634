"""Reward models: decoders with a score head and encoders with a classifier, against one text at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import FAMILIES, make_model, make_tokenizer
from models_server import user
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from prefdata.core.errors import Stopped
from prefdata.models.protocol import CallFailed
from prefdata.models.providers import Providers
from prefdata.models.reward import LocalReward
from prefdata.models.spec import read

TEXTS = ["The capital of France is Paris.", "No", "Hello there, how are you today?", "\n\n144"]
PROMPTS = [user("What is the capital of France?"), user("Hi")]
HEADED = ["llama3", "mistral", "qwen2", "gemma2", "phi3"]


def reward(folder: Path, **more: Any) -> LocalReward:
    return LocalReward(read("m", {"kind": "transformers", "path": str(folder), "device": "cpu", **more}))


def make(folder: Path, name: str, **config: Any) -> Path:
    return make_model(folder, name, head="ForSequenceClassification", num_labels=1, **config)


def classifier(folder: Path, kind: str, **more: Any) -> Path:
    """A small encoder with a classifier, of BERT's or RoBERTa's kind."""
    tokenizer = make_tokenizer(FAMILIES["llama3"])
    tokenizer.chat_template = None
    tokenizer.pad_token, tokenizer.sep_token, tokenizer.cls_token = "<unk>", "<|eot_id|>", "<|begin_of_text|>"
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
    ends = {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer) + 8, "max_position_embeddings": 64}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **ends, "num_labels": 1, **more})
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", HEADED)
def test_scores_equal_one_whole_conversation_at_a_time(tmp_path: Path, name: str) -> None:
    """The model's own answer to the rendered conversation, alone and without padding."""
    folder = make(tmp_path / "m", name)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = model.config.get_text_config().pad_token_id = None  # else a last token that pads is looked past

    async def ask() -> list[list[float]]:
        scorer = reward(folder)
        return list(await asyncio.gather(*(scorer.scores(prompt, TEXTS) for prompt in PROMPTS)))

    for prompt, got in zip(PROMPTS, asyncio.run(ask()), strict=True):
        for text, score in zip(TEXTS[:3], got, strict=False):
            whole = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": text}], tokenize=False)
            ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                assert score == pytest.approx(model(ids).logits.item(), abs=1e-4)


def test_padding_that_is_the_end_of_turn_is_not_looked_past(tmp_path: Path) -> None:
    """Pad = EOS, as is usual: the score is that of the last token, whatever the padding token is called."""
    folder = make(tmp_path / "m", "llama3")
    first = asyncio.run(reward(folder).scores(PROMPTS[0], TEXTS))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"pad_token_id": 2', '"pad_token_id": 0'))
    assert asyncio.run(reward(folder).scores(PROMPTS[0], TEXTS)) == pytest.approx(first, abs=1e-6)


def test_company_in_a_batch_changes_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "qwen2")
    groups = [(prompt, TEXTS[: 1 + n]) for n in range(4) for prompt in PROMPTS]
    one, other = (dict(reward(folder, batch_tokens=size).compute(groups)) for size in (1, 100_000))
    for n in range(len(groups)):
        assert one[n] == pytest.approx(other[n], abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "more"), [("Bert", {}), ("Roberta", {"max_position_embeddings": 66}), ("DebertaV2", {"type_vocab_size": 0})]
)
def test_encoders_read_prompt_and_response_as_two_texts(tmp_path: Path, kind: str, more: dict[str, Any]) -> None:
    folder = classifier(tmp_path / "m", kind, **more)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    got = asyncio.run(reward(folder).scores(PROMPTS[0], TEXTS))
    for text, score in zip(TEXTS, got, strict=True):
        with torch.no_grad():
            want = model(**tokenizer(PROMPTS[0][0]["content"], text, return_tensors="pt")).logits.item()
        assert score == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_text_that_is_too_long(tmp_path: Path, kind: str) -> None:
    folder = make(tmp_path / "m", "llama3") if kind == "decoder" else classifier(tmp_path / "m", "Bert")
    more = {"max_length": 30}

    async def ask(how: str) -> list[Any]:
        scorer = reward(folder, truncation=how, **more)
        return list(
            await asyncio.gather(scorer.scores(user("Hi"), ["No " * 26]), scorer.scores(user("Hi"), ["No"]), return_exceptions=True)
        )

    long, short = asyncio.run(ask("refuse"))
    assert isinstance(long, CallFailed)
    assert "the limit is 30" in str(long)
    assert isinstance(short, list)
    (cut,), _ = asyncio.run(ask("keep_start"))
    assert isinstance(cut, float)


def test_a_model_that_is_none_stops_the_run(tmp_path: Path) -> None:
    """A language model's files hold no reward head; transformers would make one up at random."""
    folder = make_model(tmp_path / "lm", "llama3")
    with pytest.raises(Stopped, match=r"lacks the weights 'score.weight'; give a trained reward model"):
        asyncio.run(reward(folder).scores(user("Hi"), ["Hello"]))
    folder = make_model(tmp_path / "two", "llama3", head="ForSequenceClassification", num_labels=2)
    with pytest.raises(Stopped, match="gives 2 numbers for a text; a reward model gives one"):
        asyncio.run(reward(folder).scores(user("Hi"), ["Hello"]))


def test_a_score_that_is_no_number_fails_its_row(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make(tmp_path / "m", "llama3")
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CallFailed, match="no finite number"):
        asyncio.run(reward(folder).scores(user("Hi"), ["Hello"]))


def test_it_is_handed_out_once_and_keeps_many_rows_in_flight(using: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "llama3")

    async def use(providers: Providers) -> list[float]:
        providers.check("m", "reward")
        assert providers.reward("m") is providers.reward("m")
        assert providers.concurrency("m") == 256
        return await providers.reward("m").scores(user("Hi"), ["Hello", "No"])

    scores, providers = using({"m": {"kind": "transformers", "path": str(folder), "device": "cpu"}}, use)
    assert len(scores) == 2
    assert scores[0] != scores[1]
    assert providers.calls == 0
