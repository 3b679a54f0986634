"""Which pairs make up a step, and how pairs become tensors.

With a shared prefix a pair is one row [prompt][chosen][rejected]: each response sees the prompt and itself, through a
4-D mask, and positions start again after the prompt. The prompt is then computed once. Without it a pair is two rows.
Either way `predict` names the positions whose hidden state predicts a response token, flat over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prefdata.train.data import Row

WINDOW = 16
"""Batches whose rows are sorted by length together."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch of B pairs as S = B x 2 responses; T response tokens in all."""

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

    def to(self, device: torch.device) -> Batch:
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Batch(**{**vars(self), **moved})


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """The last, smaller batch is a step too: no row is dropped."""
    return math.ceil(rows / batch_size)


def epoch_batches(lengths: Sequence[int], seed: int, epoch: int, batch_size: int, shuffled: bool) -> list[list[int]]:
    """The row numbers of each batch of an epoch, a function of its arguments alone.

    Rows are shuffled, sorted by length inside windows of some batches, cut into batches, and the batches of a window
    shuffled: batches hold rows of like length while the order stays random. `micro_batch` plays no part.
    """
    order = np.arange(len(lengths))
    if not shuffled:
        return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(order)
    size = np.asarray(lengths)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = order[start : start + batch_size * WINDOW]
        window = window[np.argsort(size[window], kind="stable")]
        cut = [window[i : i + batch_size].tolist() for i in range(0, len(window), batch_size)]
        batches += [cut[i] for i in random.permutation(len(cut))]
    return batches


def by_length(rows: Sequence[Row], size: int) -> Iterator[list[int]]:
    """All rows once, longest first (what does not fit in memory fails at once), in groups of `size`."""
    order = sorted(range(len(rows)), key=lambda i: -rows[i].length)
    return (order[i : i + size] for i in range(0, len(order), size))


def collate(rows: Sequence[Row], shared: bool) -> Batch:
    """Tensors of some pairs."""
    return _shared(rows) if shared else _separate(rows)


def _separate(rows: Sequence[Row]) -> Batch:
    width = max(row.longest for row in rows)
    ids = np.zeros((sum(len(row.responses) for row in rows), width), dtype=np.int64)
    spans, index = [], 0
    for row in rows:
        for response in row.responses:
            end = len(row.prompt) + len(response)
            ids[index, : len(row.prompt)] = row.prompt
            ids[index, len(row.prompt) : end] = response
            start = index * width + len(row.prompt)
            spans.append((start - 1, start, len(response)))
            index += 1
    positions = np.broadcast_to(np.arange(width), ids.shape).copy()
    tokens = sum(len(row.prompt) * len(row.responses) + sum(map(len, row.responses)) for row in rows)
    return _batch(rows, ids, positions, None, spans, tokens)


def _shared(rows: Sequence[Row]) -> Batch:
    width = max(row.length for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
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
            spans.append((index * width + prompt - 1, index * width + start, len(response)))
            start = end
    return _batch(rows, ids, positions, prefix_mask(torch.from_numpy(segment)), spans, sum(row.length for row in rows))


def prefix_mask(segment: Tensor) -> Tensor:
    """(B, L) segment numbers -> (B, 1, L, L): back in time, and to the same segment or the prompt."""
    width = segment.shape[1]
    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool, device=segment.device).tril()
    itself = torch.eye(width, dtype=torch.bool, device=segment.device)
    return (causal & ((query == key) | (key == 0)) & (query >= 0) | itself)[:, None]


def _batch(
    rows: Sequence[Row],
    ids: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
    mask: Tensor | None,
    spans: list[tuple[int, int, int]],
    tokens: int,
) -> Batch:
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
