"""Tiny models and toy preferences, made on the spot: nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

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


def rows_for(objective: str, count: int, seed: int = 0, offset: int = 0) -> list[dict[str, Any]]:
    """Toy rows with whatever columns the objective reads."""
    pairs = toy_pairs(count, seed, offset)
    if objective in ("plackett_luce", "pro"):
        return [{"pair_id": r["pair_id"], "prompt": r["prompt"], **_list(r, i)} for i, r in enumerate(pairs)]
    if objective in ("kto", "bco", "npo"):
        sides = (("chosen", True), ("rejected", False))
        return [{"prompt": r["prompt"], "completion": r[side], "label": good} for r in pairs for side, good in sides]
    more: dict[str, Any] = {
        "soft": {"p": 0.9}, "sppo": {"p": 0.9}, "modpo": {"margin": 0.1}, "offset": {"margin": 1.5}, "rpo_reward_aware": {"margin": 2.0},
        "rationale": {"rationale": "It says what it knows.", "rationale_prompt": "Why is this better?\n"},
        "regression": {"chosen_good": 3.0, "rejected_good": 1.0, "chosen_long": None, "rejected_long": 2.0},
        "lore": {"annotator": "ann"}, "mixture": {"annotator": "ann"},
    }.get(objective, {})  # fmt: skip
    rows = [{**r, **more} for r in pairs]
    for i, row in enumerate(rows):
        if objective == "ties":
            row["tie"] = i % 4 == 3
        if objective == "dove":
            row["rejected_prompt"] = f"{i}. Say something of {row['prompt'].split()[3]}, please:"
        if objective == "token_weights":
            row["chosen_spans"] = [{"start": 0, "end": 8, "weight": 1.0}, {"start": 10, "end": 14, "weight": 0.5}]
            row["rejected_spans"] = [{"start": 0, "end": 4, "weight": 2.0}]
    return rows


def _list(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Three responses, the best last in every other row, which then has scores."""
    texts = [row["chosen"], " It is known." + row["rejected"], row["rejected"]]
    return {"responses": texts, "scores": [3.0, 1.5, 0.5]} if number % 2 else {"responses": texts[::-1], "scores": [0.0, 1.0, 2.0]}


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


def make_encoder(folder: Path, *, hidden: int = 24, context: int = 128) -> Path:
    """A random sentence encoder of some ten thousand weights, as a sentence-transformers folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    bpe = make_tokenizer(False).backend_tokenizer
    bpe.add_special_tokens(["[CLS]", "[SEP]", "[PAD]"])
    ends = [(token, bpe.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    bpe.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", model_max_length=context
    )
    sizes = {"hidden_size": hidden, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=context, pad_token_id=tokenizer.pad_token_id, **sizes))
    plain = folder.with_name(folder.name + "-plain")
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    SentenceTransformer(modules=[Transformer(str(plain)), Pooling(hidden)]).save(str(folder))
    return folder
