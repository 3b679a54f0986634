"""Load a model for training, learn what it can do, save it again."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from prefdata.core.errors import NeedsExtra, PrefdataError
from prefdata.train.batch import prefix_mask
from prefdata.train.config import TrainConfig
from prefdata.train.logps import Head


@dataclass
class Loaded:
    """A model ready to train."""

    model: Any
    """What is trained and saved: the PreTrainedModel, or peft's wrapper around it."""
    body: Any
    """Everything below the head; gives hidden states."""
    tokenizer: PreTrainedTokenizerBase
    window: int | None
    """Tokens a sliding-window attention looks back, where the model has one."""
    source_dtype: torch.dtype
    compute: torch.dtype
    device: torch.device

    @property
    def core(self) -> Any:
        """The transformers model, inside peft's wrapper or not."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """The computation's number format; weights stay as they are."""
        with torch.autocast(self.device.type, dtype=self.compute, enabled=self.compute != torch.float32):
            yield

    def hidden(self, input_ids: Tensor, position_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Last hidden states, flat over the batch: (rows x L, h)."""
        if mask is not None and self.core.config._attn_implementation == "eager":
            # Eager attention adds the mask to the scores, so True/False must become 0/-inf.
            low = torch.finfo(self.compute).min
            mask = torch.zeros(mask.shape, dtype=self.compute, device=mask.device).masked_fill(~mask, low)
        out = self.body(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, use_cache=False)
        states: Tensor = out.last_hidden_state
        return states.reshape(-1, states.shape[-1])


def pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PrefdataError(
            f"the device {name!r} cannot be used ({str(error).splitlines()[0]}); allowed are auto, cpu, cuda, cuda:N and mps "
            "where the machine has them."
        ) from None
    return device


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise PrefdataError(
            f"the model folder {str(folder)!r} has no tokenizer that loads ({str(error).splitlines()[0]}); save the tokenizer "
            "beside the model."
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise PrefdataError(f"the model folder {str(folder)!r} has no tokenizer; save one beside the model.")
    return tokenizer


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


def load_model(folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, config: TrainConfig, endings: Collection[int] = ()) -> Loaded:
    """Weights in float32 (in the computation's format where only an adapter is trained), dropout off.

    `endings` are the tokens that end a text, which a reward model must not take for padding.
    """
    device = pick_device(config.device)
    compute = _compute_dtype(config, device)
    torch.manual_seed(config.seed)
    model, source_dtype = _weights(folder, kind, compute if config.lora else torch.float32, tokenizer)
    text = model.config.get_text_config()
    if kind == "reward":
        _own_padding(model, tokenizer, endings, bool(config.lora))
    if config.lora:
        model = _with_lora(model, config.lora, kind)
    _no_dropout(model)
    model.to(device)
    core = model.get_base_model() if config.lora else model
    if config.gradient_checkpointing:
        _recompute_activations(core)
    body = getattr(core, core.base_model_prefix)
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    window = window or getattr(text, "attention_chunk_size", None)
    return Loaded(model, body, tokenizer, window, source_dtype, compute, device)


def _compute_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32


def _weights(folder: Path, kind: str, dtype: torch.dtype, tokenizer: PreTrainedTokenizerBase) -> tuple[Any, torch.dtype]:
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder)
            if kind == "reward":
                config.num_labels = 1
            loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
            model, info = loader.from_pretrained(folder, config=config, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PrefdataError(f"the model folder {str(folder)!r} does not load as a language model: {str(error).splitlines()[0]}") from None
    if kind == "reward" and not isinstance(getattr(model, "score", None), nn.Linear):
        raise PrefdataError(
            f"the model type {config.model_type!r} has no score head on its last token; reward models need a decoder such as "
            "Llama, Qwen or GPT-2."
        )
    # transformers fills what the files lack with random numbers; only a new reward head may start like that.
    lacking = sorted(set(info["missing_keys"]) - {"score.weight"})
    if lacking:
        what = f"{lacking[0]!r}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "")
        raise PrefdataError(f"the model folder {str(folder)!r} lacks the weights {what}; give a complete language model.")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise PrefdataError(
            f"the tokenizer of {str(folder)!r} knows {len(tokenizer)} tokens and the model only {rows}; save the tokenizer "
            "that belongs to the model."
        )
    return model, getattr(config, "dtype", None) or torch.float32


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


@torch.no_grad()
def find_head(loaded: Loaded) -> Head:
    """The output projection, checked to reproduce the model's own logits."""
    layer = loaded.core.get_output_embeddings()
    config = loaded.core.config.get_text_config()
    if not isinstance(layer, nn.Linear):
        raise PrefdataError(f"the model type {config.model_type!r} has no linear output layer; the trainer needs one.")
    ids, positions = _probe(loaded, 8)
    loaded.model.eval()
    want = loaded.core(input_ids=ids, position_ids=positions, use_cache=False).logits[0].float()
    hidden = loaded.hidden(ids, positions, None)
    softcap = getattr(config, "final_logit_softcapping", None)
    factor = getattr(config, "logits_scaling", None)
    # Granite divides by logits_scaling, others multiply by it: whichever gives the model's logits is right.
    for scale in (1.0, getattr(config, "logit_scale", None), factor and 1 / factor, factor):
        if not scale:
            continue
        logits = scale * layer(hidden).float()
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        if _close(logits, want):
            return Head(layer.weight, layer.bias, float(scale), softcap)
    raise PrefdataError(
        f"the model type {config.model_type!r} computes its logits in a way the trainer does not know; models of the "
        "Llama, Qwen, Mistral, Gemma, Granite, Cohere and GPT-2 families work."
    )


@torch.no_grad()
def can_share_prefix(loaded: Loaded) -> bool:
    """Whether two responses behind one prompt give the same states as two separate passes. Tried, not assumed."""
    loaded.model.eval()
    ids, _ = _probe(loaded, 12)
    first, second = ids[:, :8], torch.cat([ids[:, :5], ids[:, 8:]], dim=1)
    segment = torch.tensor([[0] * 5 + [1] * 3 + [2] * 4], device=loaded.device)
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8]], device=loaded.device)
    try:
        together = loaded.hidden(ids, positions, prefix_mask(segment))
        apart = torch.cat([loaded.hidden(part, torch.arange(part.shape[1], device=loaded.device)[None], None) for part in (first, second)])
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return _close(together, torch.cat([apart[:8], apart[13:]]))


def _probe(loaded: Loaded, length: int) -> tuple[Tensor, Tensor]:
    rows = loaded.core.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, rows, (1, length), generator=torch.Generator().manual_seed(1))
    return ids.to(loaded.device), torch.arange(length, device=loaded.device)[None]


def _close(got: Tensor, want: Tensor) -> bool:
    tolerance = 1e-4 if want.dtype == torch.float32 and got.dtype == torch.float32 else 2e-2
    return bool((got.float() - want.float()).abs().max() <= tolerance * max(1.0, float(want.abs().max())))


def save_model(loaded: Loaded, folder: Path) -> None:
    """Weights (safetensors, in the format they came in) and tokenizer."""
    half = loaded.source_dtype in (torch.float16, torch.bfloat16)
    with quiet():
        if half and loaded.model is loaded.core:
            loaded.model.to(loaded.source_dtype)
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        # safetensors makes its files private to the user; a model is as readable as its tokenizer.
        file.chmod((folder / "tokenizer_config.json").stat().st_mode)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers prints bars and hints to the terminal; here only the CLI speaks."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
