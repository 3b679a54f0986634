"""What scorer and trainer know about a transformers model: its hidden states, its head, and whether it can share a prompt."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from prefdata.core.errors import PrefdataError
from prefdata.models.packing import prefix_mask
from prefdata.models.packing_logps import Head


@dataclass
class Body:
    """A model on its device."""

    model: Any
    """The PreTrainedModel, or peft's wrapper around it."""
    body: Any
    """Everything below the head; gives hidden states."""
    tokenizer: PreTrainedTokenizerBase
    window: int | None
    """Tokens a sliding-window attention looks back, where the model has one."""
    compute: torch.dtype
    device: torch.device

    @property
    def core(self) -> Any:
        """The transformers model, inside peft's wrapper or not."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """The computation's number format; weights stay as they are."""
        with torch.autocast(self.device.type, dtype=self.compute, enabled=self.compute != torch.float32):
            yield

    def hidden(self, input_ids: Tensor, position_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Last hidden states, after the final norm, flat over the batch: (rows x L, h)."""
        if mask is not None and self.core.config._attn_implementation == "eager":
            # Eager attention adds the mask to the scores, so True/False must become 0/-inf.
            low = torch.finfo(self.compute).min
            mask = torch.zeros(mask.shape, dtype=self.compute, device=mask.device).masked_fill(~mask, low)
        out = self.body(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, use_cache=False)
        states: Tensor = out.last_hidden_state
        return states.reshape(-1, states.shape[-1])


def body_of(model: Any) -> Any:
    """The part of a transformers model below its head."""
    return getattr(model, model.base_model_prefix)


def window_of(model: Any) -> int | None:
    """Tokens that attention looks back, where that is fewer than all."""
    text = model.config.get_text_config()
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    return window or getattr(text, "attention_chunk_size", None)


def pick_device(name: str) -> torch.device:
    """A torch device by name; auto is a GPU where there is one."""
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
    """The tokenizer that lies beside a model."""
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


def load_weights(
    folder: Path,
    kind: str,
    dtype: torch.dtype | str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    labels: int | None = None,
    may_lack: Collection[str] = (),
) -> tuple[Any, torch.dtype]:
    """A transformers model with every weight from its files, and the number format that they came in.

    Args:
        folder: in Hugging Face format.
        kind: reward is a sequence classifier, anything else a causal language model.
        dtype: number format of the weights, or auto for that of the files.
        tokenizer: must not know more tokens than the model.
        labels: outputs of a classifier's head; None: as many as its files say.
        may_lack: weights that may start at random where the files lack them.
    """
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder)
            if kind == "reward" and labels is not None:
                config.num_labels = labels
            loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
            model, info = loader.from_pretrained(folder, config=config, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PrefdataError(f"the model folder {str(folder)!r} does not load as a language model: {str(error).splitlines()[0]}") from None
    if kind == "reward" and labels is not None and not isinstance(getattr(model, "score", None), nn.Linear):
        raise PrefdataError(
            f"the model type {config.model_type!r} has no score head on its last token; reward models need a decoder such as "
            "Llama, Qwen or GPT-2."
        )
    # transformers fills what the files lack with random numbers.
    lacking = sorted(set(info["missing_keys"]) - set(may_lack))
    if lacking:
        what = f"{lacking[0]!r}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "")
        whole = "complete language model" if kind != "reward" or labels is not None else "trained reward model (a sequence classifier)"
        raise PrefdataError(f"the model folder {str(folder)!r} lacks the weights {what}; give a {whole}.")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise PrefdataError(
            f"the tokenizer of {str(folder)!r} knows {len(tokenizer)} tokens and the model only {rows}; save the tokenizer "
            "that belongs to the model."
        )
    return model, getattr(config, "dtype", None) or torch.float32


@torch.no_grad()
def find_head(loaded: Body) -> Head:
    """The output projection, checked to reproduce the model's own logits."""
    layer = loaded.core.get_output_embeddings()
    config = loaded.core.config.get_text_config()
    if not isinstance(layer, nn.Linear):
        raise PrefdataError(f"the model type {config.model_type!r} has no linear output layer; log-probabilities need one.")
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
        f"the model type {config.model_type!r} computes its logits in a way that is not known here; models of the "
        "Llama, Qwen, Mistral, Gemma, Phi, Granite, Cohere and GPT-2 families work."
    )


@torch.no_grad()
def can_share_prefix(loaded: Body) -> bool:
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


def _probe(loaded: Body, length: int) -> tuple[Tensor, Tensor]:
    rows = loaded.core.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, rows, (1, length), generator=torch.Generator().manual_seed(1))
    return ids.to(loaded.device), torch.arange(length, device=loaded.device)[None]


def _close(got: Tensor, want: Tensor) -> bool:
    tolerance = 1e-4 if want.dtype == torch.float32 and got.dtype == torch.float32 else 2e-2
    return bool((got.float() - want.float()).abs().max() <= tolerance * max(1.0, float(want.abs().max())))


_loading = threading.RLock()
"""transformers builds a model inside process-wide settings: two threads that load at once leave both without weights."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Load here: one thread at a time, and without the bars and hints that transformers prints; only the CLI speaks."""
    log = transformers.utils.logging
    with _loading:
        level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            yield
        finally:
            log.set_verbosity(level)
            if bars:
                log.enable_progress_bar()
