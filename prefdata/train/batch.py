"""Which pairs make up a step. How pairs become tensors stands in `prefdata.models.packing`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from prefdata.train.data import Row

WINDOW = 16
"""Batches whose rows are sorted by length together."""


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
