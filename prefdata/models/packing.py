"""Several responses behind one prompt as tensors: one piece of code for whoever scores and whoever trains.

With a shared prefix a row is [prompt][response 1]...[response K]: each response sees the prompt and itself, through a
4-D mask, and positions start again after the prompt. The prompt is then computed once: P + sum(R) tokens where separate
passes take K P + sum(R). Without it every response is a row with its own copy of the prompt. Either way `predict` names
the positions whose hidden state predicts a response token, flat over the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ids = npt.NDArray[np.int32]
"""Token ids, (n,)."""


class Packable(Protocol):
    """One prompt's token ids and those of its responses."""

    @property
    def prompt(self) -> Ids: ...
    @property
    def responses(self) -> tuple[Ids, ...]: ...


Row = TypeVar("Row", bound=Packable)


@dataclass(frozen=True)
class Batch(Generic[Row]):
    """B rows with S responses, T response tokens in all."""

    rows: tuple[Row, ...]
    input_ids: Tensor
    """(B or S, L)"""
    position_ids: Tensor
    mask: Tensor | None
    """(B, 1, L, L), True where a position may look; None: plain causal, padding stands on the right."""
    predict: Tensor
    """(T,) flat positions that predict the response tokens, response after response."""
    targets: Tensor
    """(T,) the response tokens."""
    lengths: Tensor
    """(S,) tokens per response."""
    last: Tensor
    """(S,) flat position of each response's last token."""
    tokens: int
    """Tokens computed, without padding."""

    def to(self, device: torch.device) -> Batch[Row]:
        moved: dict[str, Any] = {n: v.to(device, non_blocking=True) for n, v in vars(self).items() if isinstance(v, Tensor)}
        return Batch(**{**vars(self), **moved})


def width(row: Packable) -> int:
    """Tokens with the prompt counted once."""
    return len(row.prompt) + sum(map(len, row.responses))


def longest(row: Packable) -> int:
    """Tokens of the longest single sequence, prompt and one response."""
    return len(row.prompt) + max(map(len, row.responses))


def fit(prompt: Ids, responses: tuple[Ids, ...], most: int | None, how: str, bos: int | None) -> tuple[Ids, tuple[Ids, ...]] | str:
    """Prompt and responses within `most` tokens each way, or the reason why they cannot be.

    Args:
        prompt: token ids.
        responses: one prompt's.
        most: tokens of prompt plus one response; None: any number.
        how: refuse (too long is refused), keep_start (responses lose their end) or keep_end (the prompt loses its start).
        bos: a first token that stays when the prompt's start is cut.
    """
    length = max(map(len, responses))
    if most is None or len(prompt) + length <= most:
        return prompt, responses
    if how == "refuse":
        return "too_long"
    if how == "keep_start":
        room = most - len(prompt)
        return "prompt_fills" if room < 1 else (prompt, tuple(r[:room] for r in responses))
    room = most - length
    head = prompt[:1] if bos is not None and prompt[0] == bos else prompt[:0]
    if room < len(head) + 1:
        return "response_fills"
    return np.concatenate([head, prompt[len(prompt) - (room - len(head)) :]]), responses


def collate(rows: Sequence[Row], shared: bool) -> Batch[Row]:
    """Tensors of some rows."""
    return _shared(rows) if shared else _separate(rows)


def by_tokens(rows: Sequence[Packable], shared: bool, most: int) -> Iterator[list[int]]:
    """Row numbers of batches that hold at most `most` tokens, padding counted; a longer row is a batch of its own.

    Longest first: what does not fit in memory fails at once, and rows of like length share a batch.
    """
    size = width if shared else longest
    copies = [1 if shared else len(row.responses) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (-size(rows[i]), i))
    batch: list[int] = []
    for i in order:
        if batch and size(rows[batch[0]]) * (sum(copies[j] for j in batch) + copies[i]) > most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _separate(rows: Sequence[Row]) -> Batch[Row]:
    wide = max(longest(row) for row in rows)
    ids = np.zeros((sum(len(row.responses) for row in rows), wide), dtype=np.int64)
    spans, index = [], 0
    for row in rows:
        for response in row.responses:
            end = len(row.prompt) + len(response)
            ids[index, : len(row.prompt)] = row.prompt
            ids[index, len(row.prompt) : end] = response
            start = index * wide + len(row.prompt)
            spans.append((start - 1, start, len(response)))
            index += 1
    positions = np.broadcast_to(np.arange(wide), ids.shape).copy()
    tokens = sum(len(row.prompt) * len(row.responses) + sum(map(len, row.responses)) for row in rows)
    return _batch(rows, ids, positions, None, spans, tokens)


def _shared(rows: Sequence[Row]) -> Batch[Row]:
    wide = max(width(row) for row in rows)
    ids = np.zeros((len(rows), wide), dtype=np.int64)
    positions = np.zeros_like(ids)
    # Segment 0 is the prompt, 1.. the responses, -1 padding, which sees itself only: a row that sees nothing is NaN.
    segment = np.full(ids.shape, -1, dtype=np.int64)
    spans = []
    for index, row in enumerate(rows):
        prompt = len(row.prompt)
        ids[index, :prompt], positions[index, :prompt], segment[index, :prompt] = row.prompt, np.arange(prompt), 0
        start = prompt
        for number, response in enumerate(row.responses, 1):
            end = start + len(response)
            ids[index, start:end], segment[index, start:end] = response, number
            positions[index, start:end] = np.arange(prompt, prompt + len(response))
            spans.append((index * wide + prompt - 1, index * wide + start, len(response)))
            start = end
    return _batch(rows, ids, positions, prefix_mask(torch.from_numpy(segment)), spans, sum(width(row) for row in rows))


def prefix_mask(segment: Tensor) -> Tensor:
    """(B, L) segment numbers -> (B, 1, L, L): back in time, and to the same segment or the prompt."""
    wide = segment.shape[1]
    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(wide, wide, dtype=torch.bool, device=segment.device).tril()
    itself = torch.eye(wide, dtype=torch.bool, device=segment.device)
    return (causal & ((query == key) | (key == 0)) & (query >= 0) | itself)[:, None]


def _batch(
    rows: Sequence[Row],
    ids: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
    mask: Tensor | None,
    spans: list[tuple[int, int, int]],
    tokens: int,
) -> Batch[Row]:
    """`spans` holds per response: the position that predicts its first token, where it starts, its length."""
    predict = [np.concatenate([[before], np.arange(start, start + n - 1)]) for before, start, n in spans]
    return Batch(
        rows=tuple(rows),
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        mask=mask,
        predict=torch.from_numpy(np.concatenate(predict)),
        targets=torch.from_numpy(np.concatenate([r for row in rows for r in row.responses]).astype(np.int64)),
        lengths=torch.tensor([n for *_, n in spans]),
        last=torch.tensor([start + n - 1 for _, start, n in spans]),
        tokens=tokens,
    )
