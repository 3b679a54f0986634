"""Log-probabilities of given tokens without ever holding [tokens, vocabulary].

The head (hidden states x vocabulary matrix) is the largest tensor of a training step: at 150k words one position takes
0.6 MB in float32. Here it is computed a chunk of positions at a time, in float32, and again in the backward pass; what
stays is one number per token. Only the positions that predict response tokens are projected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

CHUNK = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits held at once, per device: 16 MB fit a CPU's cache hierarchy, a GPU wants large products."""


@dataclass(frozen=True)
class Head:
    """The output projection of a causal language model."""

    weight: Tensor
    """(V, h)"""
    bias: Tensor | None = None
    scale: float = 1.0
    """Logits are multiplied by this (Cohere, Granite)."""
    softcap: float | None = None
    """Logits are c tanh(logits / c) (Gemma)."""

    def logps(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Float32 log-probability of each target (N,) given its hidden state (N, h)."""
        chosen = _ChosenLogps.apply(_cast(hidden), self.weight, self.bias, targets, self.scale, self.softcap)  # type: ignore[no-untyped-call]
        return cast(Tensor, chosen)

    @torch.no_grad()
    def logps_and_entropy(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The same and the entropy (nats, (N,)) of the distribution that each target stands in; no gradient."""
        hidden = _cast(hidden)
        matrix = self.weight.to(hidden.dtype)
        chosen = torch.empty(len(targets), dtype=_wide(hidden.dtype), device=hidden.device)
        entropy = torch.empty_like(chosen)
        for part in _chunks(len(targets), self.weight):
            logps = _cap(_logits(hidden[part], matrix, self.bias, self.scale), self.softcap).log_softmax(-1)
            chosen[part] = logps.gather(1, targets[part, None])[:, 0]
            entropy[part] = torch.special.entr(logps.exp_()).sum(-1)
        return chosen, entropy


class _ChosenLogps(torch.autograd.Function):
    """log_softmax(hidden @ weight.T)[targets], in chunks, recomputed in backward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scale: float, softcap: float | None
    ) -> Tensor:
        lse = torch.empty(len(targets), dtype=_wide(hidden.dtype), device=hidden.device)
        chosen = torch.empty_like(lse)
        matrix = weight.to(hidden.dtype)
        for part in _chunks(len(targets), weight):
            logits = _cap(_logits(hidden[part], matrix, bias, scale), softcap)
            torch.logsumexp(logits, dim=-1, out=lse[part])
            chosen[part] = logits.gather(1, targets[part, None])[:, 0]
        ctx.save_for_backward(hidden, weight, bias, targets, lse)
        ctx.scale, ctx.softcap = scale, softcap
        return chosen - lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, lse = ctx.saved_tensors
        matrix = weight.to(hidden.dtype)
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        # The sum over chunks is kept wide: in bfloat16 every added chunk would lose the small ones.
        d_weight = torch.zeros(weight.shape, dtype=_wide(weight.dtype), device=weight.device) if need_weight else None
        d_bias = torch.zeros(bias.shape, dtype=_wide(bias.dtype), device=bias.device) if need_bias else None
        for part in _chunks(len(targets), weight):
            raw = _logits(hidden[part], matrix, bias, ctx.scale)
            d_logits = _d_logits(raw, targets[part], lse[part], grads[0][part], ctx.softcap)
            d_logits = d_logits.mul_(ctx.scale) if ctx.scale != 1.0 else d_logits
            narrow = d_logits.to(hidden.dtype)
            if d_hidden is not None:
                torch.mm(narrow, matrix, out=d_hidden[part])
            if d_weight is not None and d_weight.dtype == hidden.dtype:
                d_weight.addmm_(narrow.T, hidden[part])
            elif d_weight is not None:
                d_weight += narrow.T @ hidden[part]
            if d_bias is not None:
                d_bias += d_logits.sum(0)
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _chunks(rows: int, weight: Tensor) -> list[slice]:
    size = max(16, CHUNK.get(weight.device.type, CHUNK["cpu"]) // weight.shape[0])
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _cast(hidden: Tensor) -> Tensor:
    """In the number format of the computation."""
    kind = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden


def _wide(dtype: torch.dtype) -> torch.dtype:
    """At least float32: log-softmax over a large vocabulary in 16 bits is off by whole nats."""
    return torch.promote_types(dtype, torch.float32)


def _logits(hidden: Tensor, matrix: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    logits = (hidden @ matrix.T).to(_wide(hidden.dtype))
    if bias is not None:
        logits += bias
    return logits.mul_(scale) if scale != 1.0 else logits


def _cap(logits: Tensor, softcap: float | None) -> Tensor:
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _d_logits(raw: Tensor, targets: Tensor, lse: Tensor, grad: Tensor, softcap: float | None) -> Tensor:
    """Gradient of sum(grad * (logit[target] - logsumexp)) with respect to the raw logits."""
    capped = _cap(raw, softcap)
    slope = None if softcap is None else 1 - (capped / softcap) ** 2
    out = capped.sub_(lse[:, None]).exp_().mul_(-grad[:, None])
    out[torch.arange(len(targets), device=targets.device), targets] += grad
    return out if slope is None else out.mul_(slope)


def segment_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Sum (N,) values over consecutive segments of the given lengths -> (S,), in the same order on every run.

    Through a padded matrix: an indexed add would not be deterministic on a GPU.
    """
    mask = torch.arange(int(lengths.max()), device=values.device)[None, :] < lengths[:, None]
    padded = torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
    return padded.sum(-1)
