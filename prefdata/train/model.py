"""Load a model for training, learn what it can do, save it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedTokenizerBase

from prefdata.core.errors import NeedsExtra, PrefdataError
from prefdata.models.packing_model import Body, body_of, load_weights, pick_device, quiet, window_of
from prefdata.train.config import TrainConfig
from prefdata.train.data import Row

FROZEN_HEAD = "head.safetensors"


@dataclass
class Loaded(Body):
    """A model ready to train."""

    source_dtype: torch.dtype
    """Of the weights as they came."""
    features: Callable[[Sequence[Row]], Tensor] | None = None
    """(S, F) numbers of each response where the model is frozen and only a head on them is trained."""
    people: nn.Parameter | None = None
    """What is learnt about each annotator beside the model."""

    def trainable(self) -> dict[str, nn.Parameter]:
        own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return own if self.people is None else {**own, "people": self.people}


def context_of(folder: Path) -> int | None:
    """The most tokens the model was made for."""
    try:
        with quiet():
            text = AutoConfig.from_pretrained(folder).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise PrefdataError(
            f"{folder / 'config.json'} does not load ({str(error).splitlines()[0]}); give a folder in Hugging Face format."
        ) from None
    return getattr(text, "max_position_embeddings", None)


def load_model(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, config: TrainConfig, endings: Collection[int] = (), outputs: int = 1
) -> Loaded:
    """Weights in float32 (in the computation's format where only an adapter is trained), dropout off.

    `endings` are the tokens that end a text, which a reward model must not take for padding; `outputs` its numbers per text.
    """
    device = pick_device(config.device)
    compute = compute_dtype(config, device)
    torch.manual_seed(config.seed)
    # transformers fills what the files lack with random numbers; only a new reward head may start like that.
    fresh = ("score.weight",) if kind == "reward" else ()
    model, source_dtype = load_weights(folder, kind, compute if config.lora else torch.float32, tokenizer, labels=outputs, may_lack=fresh)
    if kind == "reward":
        _own_padding(model, tokenizer, endings, bool(config.lora))
    if config.lora:
        model = _with_lora(model, config.lora, kind)
    _no_dropout(model)
    model.to(device)
    core = model.get_base_model() if config.lora else model
    if config.gradient_checkpointing:
        _recompute_activations(core)
    return Loaded(model, body_of(core), tokenizer, window_of(core), compute, device, source_dtype)


def compute_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32


def _own_padding(model: Any, tokenizer: PreTrainedTokenizerBase, endings: Collection[int], lora: bool) -> None:
    """A reward model's padding token must never end a text.

    transformers reads the score at the last token that is not padding. Where padding is the EOS token, as is usual, that
    is one token too early. Such a model pads with another special token, or gets one of its own.
    """
    config = model.config.get_text_config()
    never = {*endings, tokenizer.eos_token_id, getattr(config, "eos_token_id", None)}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in never:
        special = [token for i, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special and i not in never]
        # One that is called padding, if there is one; the start of a text never ends it either.
        found = sorted(special, key=lambda token: "pad" not in token.content.lower())
        tokenizer.add_special_tokens({"pad_token": found[0].content if found else "<|padding|>"})
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        if lora:
            raise PrefdataError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no token to pad with but EOS, and an adapter cannot add one; "
                "train all weights (without --lora), or give the model a padding token first."
            )
        with quiet():
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


def _with_lora(model: Any, rank: int, kind: str) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise NeedsExtra("LoRA", "train") from None
    task = "SEQ_CLS" if kind == "reward" else "CAUSAL_LM"
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type=task))


def _recompute_activations(core: Any) -> None:
    """Gradient checkpointing, under the name that this version of transformers has for it."""
    how = {"use_reentrant": False}
    if hasattr(core, "activation_checkpointing_enable"):
        core.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        core.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


def _no_dropout(model: nn.Module) -> None:
    """Noise in the policy but not in the reference would count as a difference between them."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def save_model(loaded: Loaded, folder: Path) -> None:
    """Weights (safetensors, in the format they came in) and tokenizer; of a frozen model the head alone."""
    if loaded.features is not None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in loaded.model.state_dict().items()}, folder / FROZEN_HEAD)
        (folder / FROZEN_HEAD).chmod(0o666 & ~_umask())
        return
    half = loaded.source_dtype in (torch.float16, torch.bfloat16)
    with quiet():
        if half and loaded.model is loaded.core:
            loaded.model.to(loaded.source_dtype)
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        # safetensors makes its files private to the user; a model is as readable as its tokenizer.
        file.chmod((folder / "tokenizer_config.json").stat().st_mode)


def _umask() -> int:
    """What new files are denied; safetensors makes its own private to the user."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
