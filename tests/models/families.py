"""Tiny models of the families that people use: random weights, a tokenizer of the family's kind, a template of its shape."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# Two threads on two busy cores wait for each other more than they compute.
torch.set_num_threads(1)

TEXTS = [
    "Hello there, how are you today?", "The capital of France is Paris.\n\nIt lies on the Seine.", "def add(a, b):\n    return a + b\n",
    " Gladly. Tea is a drink made from leaves, and coffee from beans.", "user assistant system model", "No, that is wrong; try again.",
    "Écoute, ça va? Grüße aus Köln. 你好，世界", "1 + 1 = 2 and 12 * 12 = 144", "one\n\n two\n\n three\n\n four",
] * 4  # fmt: skip
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Where byte-level tokenizers of today cut a text before they merge: a run of line breaks is one piece."""
LOOP = "{% for m in messages %}"
END = "{% endfor %}"
GENERATE = "{% if add_generation_prompt %}"


@dataclass(frozen=True)
class Family:
    """What tells a family from others."""

    config: str
    kind: str
    """Of tokenizer: bytes (byte-level BPE), start (sentencepiece that marks the start of a text), every (that marks the start of
    every stretch between special tokens), none (sentencepiece without such a mark)."""
    special: tuple[str, ...]
    bos: str | None
    eos: str
    template: str
    more: dict[str, Any] = field(default_factory=dict)


_HEADERS = "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
_CHATML = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
_MARKED = "<|{{ m['role'] }}|>\n{{ m['content'] }}"
_INST = "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}"
_THINK = (
    "<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}"
    "<|im_end|>\n"
)
FAMILIES = {
    "llama3": Family(
        "Llama", "bytes", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|begin_of_text|>", "<|eot_id|>",
        "{{ bos_token }}" + LOOP + _HEADERS + END + GENERATE + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "llama2": Family("Llama", "start", (), "<s>", "</s>", "{{ bos_token }}" + LOOP + _INST + END),
    "mistral": Family(
        "Mistral", "every", ("[INST]", "[/INST]"), "<s>", "</s>", "{{ bos_token }}" + LOOP + _INST + END, {"sliding_window": 64},
    ),
    "zephyr": Family(
        "Mistral", "start", ("<|user|>", "<|assistant|>"), "<s>", "</s>",
        LOOP + _MARKED + "{{ eos_token }}\n" + END + GENERATE + "<|assistant|>\n{% endif %}", {"sliding_window": None},
    ),
    "qwen2": Family(
        "Qwen2", "bytes", ("<|im_start|>", "<|im_end|>"), None, "<|im_end|>",
        LOOP + _CHATML + END + GENERATE + "<|im_start|>assistant\n{% endif %}", {"tie_word_embeddings": True},
    ),
    "qwen3": Family(
        "Qwen3", "bytes", ("<|im_start|>", "<|im_end|>"), None, "<|im_end|>",
        LOOP + _THINK + END + GENERATE + "<|im_start|>assistant\n{% endif %}", {"head_dim": 8},
    ),
    "gemma2": Family(
        "Gemma2", "none", ("<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>",
        "{{ bos_token }}" + LOOP + "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n" + END
        + GENERATE + "<start_of_turn>model\n{% endif %}",
        {"head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 20.0, "query_pre_attn_scalar": 8,
         "attn_implementation": "eager"},
    ),
    "gemma3": Family(
        "Gemma3Text", "none", ("<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>",
        "{{ bos_token }}" + LOOP + "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}"
        "<end_of_turn>\n" + END + GENERATE + "<start_of_turn>model\n{% endif %}",
        {"head_dim": 8, "sliding_window": 32, "query_pre_attn_scalar": 8},
    ),
    "phi3": Family(
        "Phi3", "start", ("<|user|>", "<|assistant|>", "<|end|>"), "<s>", "<|endoftext|>",
        LOOP + _MARKED + "<|end|>\n" + END + GENERATE + "<|assistant|>\n{% else %}{{ eos_token }}{% endif %}", {"sliding_window": None},
    ),
}  # fmt: skip


def make_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """A tokenizer of some hundred tokens, trained on a few sentences."""
    special = [token for token in dict.fromkeys(("<unk>", family.bos, family.eos, *family.special)) if token]
    if family.kind == "bytes":
        bpe = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(_WORDS), "isolated")
        bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        marks = {"start": "first", "every": "always", "none": "never"}
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=marks[family.kind])
        strip = [decoders.Strip(" ", 1, 0)] if family.kind != "none" else []
        bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
        bpe.normalizer = normalizers.Sequence([])
        special += [f"<0x{n:02X}>" for n in range(256)]
        alphabet = []
    bpe.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    if family.kind != "bytes":
        bpe = _bytes_not_special(bpe)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=family.bos, eos_token=family.eos, unk_token="<unk>", additional_special_tokens=list(family.special)
    )
    tokenizer.chat_template = family.template
    return tokenizer


def _bytes_not_special(bpe: Tokenizer) -> Tokenizer:
    """<0x41> is a token of the vocabulary; as a special token it would be found in plain text."""
    written = json.loads(bpe.to_str())
    written["added_tokens"] = [token for token in written["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(written))


def make_model(folder: Path, name: str, *, head: str = "ForCausalLM", seed: int = 0, **config: Any) -> Path:
    """A random model of a family in a folder, with its tokenizer."""
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family)
    prefix = family.config
    config_class = getattr(transformers, f"{prefix}Config")
    stem = "Gemma3" if prefix == "Gemma3Text" and head == "ForCausalLM" else prefix
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    # A few more rows than tokens, as is usual: the family's own tokenizer class may add one when it is loaded.
    given = {**sizes, **ends, "vocab_size": len(tokenizer) + 8, "max_position_embeddings": 512, "initializer_range": 0.3}
    torch.manual_seed(seed)
    model = getattr(transformers, f"{stem}{head}")(config_class(**{**given, **family.more, **config}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
