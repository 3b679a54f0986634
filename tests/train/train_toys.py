"""Tiny models and toy preferences, made on the spot: nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

# Two threads on two busy cores wait for each other more than they compute.
torch.set_num_threads(1)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINGS = ["tea", "rain", "chess", "bread", "maps", "rivers", "clocks", "bees", "stamps", "trains", "moss", "violins"]
PLACES = ["Bern", "Oslo", "Lima", "Cairo", "Quito", "Perth"]


def toy_pairs(count: int, seed: int = 0, offset: int = 0) -> list[dict[str, Any]]:
    """Prompts in words of a small world; the chosen response is polite, the rejected one is curt."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        thing, place = rng.choice(THINGS), rng.choice(PLACES)
        more = " and".join(f" {rng.choice(THINGS)}" for _ in range(rng.randint(1, 5)))
        rows.append(
            {
                "pair_id": f"pair-{offset + i:04d}",
                "prompt": f"Tell me about {thing} in {place} number {offset + i}:",
                "chosen": f" Gladly, here is what I know of {thing} in {place},{more}.",
                "rejected": f" No, find out about {thing} yourself{more if i % 2 else ''}.",
            }
        )
    return rows


def as_chat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same pairs as conversations."""
    return [
        {
            **row,
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"].strip()}],
            "rejected": [{"role": "assistant", "content": row["rejected"].strip()}],
        }
        for row in rows
    ]


def write_export(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """A folder as the dpo export writes it."""
    (folder / "data").mkdir(parents=True)
    files = {}
    for split, rows in splits.items():
        name = f"data/{split}-00000-of-00001.parquet"
        pl.DataFrame(rows).write_parquet(folder / name)
        files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    counts = {split: len(rows) for split, rows in splits.items()}
    (folder / "manifest.json").write_text(json.dumps({"kind": "dpo", "counts": counts, "files": files, "recipe": "", "keys": []}))
    return folder


def make_tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the toy texts; EOS is the end of a turn where there is a chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    texts = [row[k] for row in toy_pairs(200, seed=99) for k in ("prompt", "chosen", "rejected")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    end = "<|im_end|>" if chat else "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=end, pad_token="<|endoftext|>", additional_special_tokens=special[1:]
    )
    tokenizer.chat_template = CHATML if chat else None
    return tokenizer


def make_model(folder: Path, *, arch: str = "llama", chat: bool = False, context: int = 128, seed: int = 0, **config: Any) -> Path:
    """A random causal language model of some ten thousand weights, with its tokenizer."""
    tokenizer = make_tokenizer(chat)
    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    config_class, model_class = kinds[arch]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    given = {**sizes, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": context, "tie_word_embeddings": False, **config}
    torch.manual_seed(seed)
    model = model_class(config_class(**given))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
