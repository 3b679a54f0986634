"""A reward head on frozen embeddings: the model computes every response once, then only a linear map is trained.

    layers      mean over the tokens of every layer's states, side by side; style and length live in the lower ones
    embedding   what the model itself gives: the sentence embedding, or the last token's last state of a language model

Features are standardised on the training responses and divided by the square root of their number, so that learning rates
mean the same for any model. They are cached like reference log-probs, by final token ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedTokenizerBase

from prefdata.core.errors import NeedsExtra, PrefdataError, Stopped
from prefdata.models.fingerprint import fingerprint, locate
from prefdata.models.packing import Ids
from prefdata.models.packing_model import load_tokenizer, pick_device, quiet
from prefdata.models.packing_tokens import Encoder
from prefdata.train.config import TrainConfig
from prefdata.train.data import Row
from prefdata.train.model import FROZEN_HEAD, Loaded, compute_dtype
from prefdata.train.reference import Cache, Floats, sequence_key

Kind = Literal["layers", "embedding"]
BATCH_TOKENS = 8192
"""Tokens computed at once, padding counted."""


class FrozenHead(nn.Module):
    """(S, F) features -> (S, D) outputs."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.weight = nn.Parameter(0.02 * torch.randn(outputs, len(mean)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise and project."""
        return F.linear((features - self.mean) / self.std / len(self.mean) ** 0.5, self.weight, self.bias)


class Joined(Encoder):
    """For models without a chat template: a conversation is its messages' texts, one after another."""

    def prompts(self, prompts: Sequence[Any]) -> list[Ids | None]:
        """Ids of each prompt, with what the tokenizer puts around a text."""
        if not prompts:
            return []
        texts = ["\n\n".join(m["content"] for m in p) if isinstance(p, list) else p for p in prompts]
        return [np.asarray(ids, dtype=np.int32) for ids in self.tokenizer(texts)["input_ids"]]


def encoder_for(folder: Path, tokenizer: PreTrainedTokenizerBase, chat: bool) -> Encoder:
    """How prompts and responses become ids: an encoder gets them as two segments, a language model as its own turn."""
    if not is_encoder(folder, tokenizer):
        return Encoder.make(tokenizer, chat=chat, whole_turn=True)
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    return Joined(tokenizer, chat, () if end is None else (int(end),))


def is_encoder(folder: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model reads a text in both directions: a sentence-transformers folder, or one that marks a class and writes nothing."""
    if (folder / "modules.json").exists():
        return True
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writes = any("CausalLM" in name or "LMHead" in name for name in config.get("architectures") or ())
    return tokenizer.cls_token_id is not None and not writes


@dataclass
class Features:
    """Frozen features of responses behind their prompts."""

    body: Callable[[Tensor, Tensor], Tensor]
    """(ids, mask) -> (B, F)"""
    cache: Cache
    device: torch.device
    table: Tensor | None = None
    """(N, F) of all responses that were computed, on the device."""
    place: dict[bytes, int] | None = None

    @torch.inference_mode()
    def compute(self, rows: Sequence[Row], advance: Callable[[int, int], None], stop: Callable[[], bool]) -> None:
        """Fill the table with every response of these rows; what the cache lacks is computed now."""
        wanted = {sequence_key(row.prompt, r): np.concatenate([row.prompt, r]) for row in rows for r in row.responses}
        missing = sorted((key for key in wanted if key not in self.cache.values), key=lambda key: -len(wanted[key]))
        done = 0
        while done < len(missing):
            if stop():
                self.cache.write()
                raise Stopped(f"stopped after {done} of {len(missing)} embeddings, which are kept; the same command with --resume goes on.")
            part = missing[done : done + max(1, BATCH_TOKENS // len(wanted[missing[done]]))]
            self.cache.values.update(zip(part, self._batch([wanted[key] for key in part]), strict=True))
            done += len(part)
            advance(done, len(missing))
        if missing:
            self.cache.write()
        self.place = {key: number for number, key in enumerate(wanted)}
        self.table = torch.from_numpy(np.stack([self.cache.values[key] for key in wanted])).to(self.device)

    def _batch(self, sequences: Sequence[Ids]) -> Floats:
        wide = max(map(len, sequences))
        ids, mask = (torch.zeros(len(sequences), wide, dtype=torch.long) for _ in range(2))
        for number, one in enumerate(sequences):
            ids[number, : len(one)] = torch.from_numpy(one.astype(np.int64))
            mask[number, : len(one)] = 1
        return self.body(ids.to(self.device), mask.to(self.device)).float().cpu().numpy()

    def __call__(self, rows: Sequence[Row]) -> Tensor:
        """(S, F), response after response."""
        if self.table is None or self.place is None:
            raise PrefdataError("the features are not computed yet.")
        index = [self.place[sequence_key(row.prompt, response)] for row in rows for response in row.responses]
        return self.table[torch.tensor(index, device=self.device)]


def load_frozen(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainConfig,
    outputs: int,
    rows: tuple[Sequence[Row], Sequence[Row]],
    cache: Cache,
    advance: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> Loaded:
    """The head, ready to train, and the features of all rows (training, held-out)."""
    device = pick_device(config.device)
    kind: Kind = config.frozen or "layers"
    features = Features(_body(folder, kind, tokenizer, compute_dtype(config, device), device), cache, device)
    features.compute([*rows[0], *rows[1]], advance, stop)
    seen = features(rows[0])
    torch.manual_seed(config.seed)
    head = FrozenHead(seen.mean(0), seen.std(0, correction=0).clamp(min=1e-6), outputs).to(device)
    return Loaded(head, head, tokenizer, None, torch.float32, device, torch.float32, features=features)


def _body(
    folder: Path, kind: Kind, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """The frozen model as a function of ids and mask."""
    if kind == "embedding" and (folder / "modules.json").exists():
        return _sentence(folder, device)
    try:
        with quiet():
            model = AutoModel.from_pretrained(folder, dtype=dtype).to(device).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise PrefdataError(f"the model folder {str(folder)!r} does not load: {str(error).splitlines()[0]}") from None

    def states(ids: Tensor, mask: Tensor) -> Tensor:
        found = model(input_ids=ids, attention_mask=mask, output_hidden_states=kind == "layers")
        if kind == "embedding":
            last = mask.sum(1) - 1
            ends: Tensor = found.last_hidden_state[torch.arange(len(ids), device=ids.device), last]
            return ends
        share = (mask / mask.sum(1, keepdim=True)).to(dtype)
        return torch.cat([torch.einsum("bt,bth->bh", share, layer) for layer in found.hidden_states], dim=-1)

    return states


def _sentence(folder: Path, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise NeedsExtra("sentence embeddings", "train") from None
    with quiet():
        model = SentenceTransformer(str(folder), device=str(device)).eval()
    return lambda ids, mask: model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]


class RewardHead:
    """A trained head on frozen embeddings, as it lies in a folder; scores texts."""

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        place = Path(folder)
        try:
            self.facts: dict[str, Any] = json.loads((place / "head.json").read_text(encoding="utf-8"))
            weights = load_file(place / FROZEN_HEAD)
        except (OSError, ValueError) as error:
            raise PrefdataError(
                f"{str(place)!r} holds no head on frozen embeddings ({error}); give a folder that --frozen wrote."
            ) from None
        base = locate(str(self.facts["model"]))
        if fingerprint(base) != self.facts["model_fingerprint"]:
            raise PrefdataError(f"the model at {str(base)!r} is not the one that {str(place)!r} was trained on; its files have changed.")
        where = pick_device(device)
        self.tokenizer = load_tokenizer(base)
        self.model = FrozenHead(weights["mean"], weights["std"], len(weights["bias"])).to(where).eval()
        self.model.load_state_dict(weights)
        body = _body(base, self.facts["features"], self.tokenizer, torch.float32, where)
        self.features = Features(body, Cache(place / ".none", "none"), where)
        self.encoders = {chat: encoder_for(base, self.tokenizer, chat) for chat in (False, *([True] if self._chats(base) else []))}

    def _chats(self, base: Path) -> bool:
        return is_encoder(base, self.tokenizer) or bool(self.tokenizer.chat_template)

    @torch.inference_mode()
    def outputs(self, items: Iterable[tuple[Any, str]]) -> Floats:
        """(N, D) numbers of (prompt, response) items; a prompt is a text or messages."""
        found: list[Floats] = []
        sequences = [self._ids(prompt, response) for prompt, response in items]
        for one in sequences:
            found.append(self.model(torch.from_numpy(self.features._batch([one])).to(self.features.device)).cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, len(self.model.bias)), dtype=np.float32)

    def rewards(self, items: Iterable[tuple[Any, str]], weights: Sequence[float] | None = None) -> Floats:
        """(N,) rewards: the outputs in the given weights (an annotator's own, say), else in those of head.json."""
        readout = self.facts["readout"] if weights is None else weights
        if readout is None:
            raise PrefdataError(f"the head {self.facts['head']} gives a single response no reward; compare two by its outputs.")
        return np.asarray(self.outputs(items) @ np.asarray(readout, dtype=np.float32), dtype=np.float32)

    def _ids(self, prompt: Any, response: str) -> Ids:
        encoder = self.encoders.get(isinstance(prompt, list))
        if encoder is None:
            raise PrefdataError(f"the prompt is a conversation and the model {self.facts['model']!r} has no chat template; give a text.")
        (before,), (after,) = encoder.prompts([prompt]), encoder.responses([response])
        if before is None:
            raise PrefdataError("the chat template refuses the conversation.")
        return np.concatenate([before, after])
