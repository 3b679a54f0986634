"""Reference log-probs: read from the export, or computed once with the starting weights and kept.

The cache is keyed by what determines the numbers: the weights (one file per model fingerprint and number format) and the
final token ids of prompt and response (one entry each). It holds one value per token, so it serves any loss, beta,
truncation of the row set or later run.
"""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from prefdata.core.errors import PrefdataError, Stopped
from prefdata.models.packing import Ids, collate
from prefdata.train.batch import by_length
from prefdata.train.data import Row

if TYPE_CHECKING:
    from prefdata.train.forward import Forward

_WRITE_SECONDS = 300
"""How much of a long reference pass a crash may cost."""

Floats = npt.NDArray[np.float32]


class Cache:
    """An array of numbers for each response behind its prompt, in one .npz file; log-probs per token, or features.

    `name` says what decides the numbers beside the tokens: the model, its number format.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.npz"
        self.values: dict[bytes, Floats] = {}
        self._read()

    def _read(self) -> None:
        """A file that a crash left broken is as good as none: everything in it can be computed again."""
        if not self.file.exists():
            return
        try:
            with np.load(self.file) as data:
                keys, ends, flat = data["keys"], data["ends"], data["values"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return
        parts = np.split(flat, ends[:-1]) if len(ends) else []
        self.values = {key.tobytes(): part for key, part in zip(keys, parts, strict=True)}

    def write(self) -> None:
        """All entries to a temporary file, then renamed. Runs that share a folder keep each other's entries."""
        mine = self.values
        self._read()
        self.values = {**self.values, **mine}
        keys = np.frombuffer(b"".join(self.values), dtype=np.uint8).reshape(-1, 16)
        ends = np.cumsum([len(v) for v in self.values.values()], dtype=np.int64)
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                np.savez(stream, keys=keys, ends=ends, values=np.concatenate(list(self.values.values())))
            temporary.replace(self.file)
        except OSError as error:
            raise PrefdataError(
                f"what the starting model says cannot be written to {self.file} ({error.strerror}); free space, or give another cache_dir."
            ) from None


def sequence_key(prompt: Ids, response: Ids) -> bytes:
    """Identity of a response behind its prompt: 128 bits over the final token ids."""
    digest = hashlib.blake2b(len(prompt).to_bytes(4, "little"), digest_size=16)
    digest.update(prompt.tobytes())
    digest.update(response.tobytes())
    return digest.digest()


@dataclass(frozen=True)
class LookUp:
    """Reference log-probs of a row's responses, by the row."""

    sums: Callable[[Row], tuple[float, ...]]
    per_token: Callable[[Row], tuple[Floats, ...]] | None = None

    def __call__(self, row: Row) -> tuple[float, ...]:
        """Summed over each response's tokens; the further sequence's comes last, where there is one."""
        return self.sums(row)

    def tokens(self, row: Row) -> tuple[Floats, ...]:
        """Of each response's tokens."""
        if self.per_token is None:
            raise PrefdataError(f"pair {row.id!r} has reference log-probs per response only, and the loss wants them per token.")
        return self.per_token(row)


def from_export(rows: Sequence[Row]) -> bool:
    """Whether the export brought reference log-probs for every one of these rows."""
    return bool(rows) and all(row.ref is not None for row in rows)


def _brought(row: Row) -> tuple[float, ...]:
    if row.ref is None:
        raise PrefdataError(f"pair {row.id!r} has no reference log-probs.")
    return row.ref


brought = LookUp(_brought)
"""The reference log-probs that came with the export."""


@torch.no_grad()
def compute(
    forward: Forward, rows: Sequence[Row], cache: Cache, size: int, advance: Callable[[int, int], None], stop: Callable[[], bool]
) -> LookUp:
    """Look-up of the starting model's log-probs for these rows; what the cache lacks is computed now."""
    further = "kl" in forward.objective.handed
    rows = [_alone(row, further) for row in rows]
    missing = [row for row in rows if any(key not in cache.values for key in _keys(row))]
    forward.loaded.model.eval()
    done, written = 0, time.monotonic()
    for group in by_length(missing, size):
        if stop():
            cache.write()
            raise Stopped(
                f"stopped after {done} of {len(missing)} reference passes, which are kept; the same command with --resume goes on "
                "from there."
            )
        batch = [missing[i] for i in group]
        for row, parts in zip(batch, _per_token(forward, batch), strict=True):
            cache.values.update(zip(_keys(row), parts, strict=True))
        done += len(batch)
        advance(done, len(missing))
        if time.monotonic() - written > _WRITE_SECONDS:
            cache.write()
            written = time.monotonic()
    if missing:
        cache.write()
    sums = {key: float(cache.values[key].sum(dtype=np.float64)) for row in rows for key in _keys(row)}
    return LookUp(
        lambda row: tuple(sums[key] for key in _keys(_alone(row, further))),
        lambda row: tuple(cache.values[key] for key in _keys(_alone(row, False))),
    )


def _alone(row: Row, further: bool) -> Row:
    """The row without its further sequence, where that has no reference."""
    return row if further or row.beside is None else replace(row, beside=None)


def _per_token(forward: Forward, rows: Sequence[Row]) -> Iterator[list[Floats]]:
    further = [Row(row.id, row.beside[0], row.beside[1:]) for row in rows if row.beside]
    batch = collate([*rows, *further], forward.shared).to(forward.loaded.device)
    values = forward.response_logps(batch).float().cpu().numpy()
    parts = iter(np.split(values, np.cumsum(batch.lengths.cpu().numpy())[:-1]))
    main = [[next(parts) for _ in row.responses] for row in rows]
    return ([*own, *([next(parts)] if row.beside else [])] for row, own in zip(rows, main, strict=True))


def _keys(row: Row) -> list[bytes]:
    keys = [sequence_key(row.prompt, response) for response in row.responses]
    return keys if row.beside is None else [*keys, sequence_key(*row.beside)]
