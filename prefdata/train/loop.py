"""The training run, top to bottom.

    resolve the objective -> check the export -> claim the folder -> tokenise -> load -> reference -> steps -> save

Nothing random happens in a step (dropout is off) and the order of rows is a function of seed and epoch, so a run that
goes on from a checkpoint takes the same path, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prefdata.core.errors import PrefdataError, Stopped
from prefdata.core.export_io import Export, load_export
from prefdata.models.fingerprint import fingerprint, locate
from prefdata.train import checkpoint, outdir
from prefdata.train.batch import by_length, epoch_batches, steps_per_epoch
from prefdata.train.config import Event, TrainConfig, TrainResult
from prefdata.train.data import Row
from prefdata.train.finish import finish, result_of
from prefdata.train.memory import TASTE_RATE
from prefdata.train.metrics import Log, Totals
from prefdata.train.model import Loaded
from prefdata.train.objective import resolve
from prefdata.train.prepare import Prepared, prepare

Progress = Callable[[Event], None]
Stop = Callable[[], bool]


def run(
    objective: str, export: Export | str | Path, model: str | Path, out: Path, config: TrainConfig, progress: Progress, stop: Stop
) -> TrainResult:
    """See `prefdata.train.train`."""
    config.check()
    bound = resolve(objective, config.params)
    data = export if isinstance(export, Export) else load_export(export)
    folder = locate(str(model))
    request = {
        "objective": bound.name,
        "method": bound.method,
        "params": json.loads(json.dumps(bound.params)),  # as a checkpoint gives it back: tuples are lists
        "settings": config.same_run(),
        "model_fingerprint": fingerprint(folder),
        "export_fingerprint": data.fingerprint,
    }
    with outdir.claimed(out):
        earlier = outdir.look(out, request, config.resume)
        if earlier is not None:
            return result_of(earlier, out, already=True)
        with _memory_errors(config):
            prepared = prepare(bound, data, folder, str(model), out, config, request, progress, stop)
            return Run(prepared, out, config, request, progress, stop).steps()


@dataclass
class Run:
    """One run's moving parts."""

    given: Prepared
    out: Path
    config: TrainConfig
    request: dict[str, Any]
    progress: Progress
    stop: Stop

    def __post_init__(self) -> None:
        loaded, config = self.given.forward.loaded, self.config
        self.per_epoch = steps_per_epoch(len(self.given.train), config.batch_size)
        self.total = config.max_steps or max(1, math.ceil(config.epochs * self.per_epoch))
        self.save_every = config.save_every or max(1, self.total // 10)
        self.eval_every = config.eval_every or max(1, self.total // 5)
        self.optimizer = _optimizer(loaded, self.given.lr, config.weight_decay)
        outdir.write_json(self.out / outdir.RUN, self.request)
        resumed = checkpoint.restore(self.out, loaded, self.optimizer, self.request, self.given.forward.memory)
        self.step, size = resumed or (0, 0)
        self.saved = self.step if resumed else None
        self.log = Log(self.out / outdir.METRICS, size)
        if resumed:
            self.progress(Event("note", f"going on from the checkpoint of step {self.step}", self.step, self.total))

    def steps(self) -> TrainResult:
        """All steps that are left, then the finished folder."""
        if self.step == 0:
            self.evaluate()
        for batch in self.batches():
            self.train_step(batch)
            if self.step % self.eval_every == 0 and self.step < self.total:
                self.evaluate()
            if self.step % self.save_every == 0 and self.step < self.total:
                self.save()
            if self.step < self.total and self.stop():
                if self.saved != self.step:
                    self.save()
                raise Stopped(
                    f"stopped at step {self.step} of {self.total}; the checkpoint is in {str(self.out / 'checkpoints')!r}, the same "
                    "command with --resume goes on from there."
                )
        self.evaluate()
        self.log.close()
        return finish(self.given, self.out, self.config, self.request, self.total, self.progress)

    def batches(self) -> Iterator[list[Row]]:
        """The rows of each step from the present one on."""
        lengths = [row.length for row in self.given.train]
        order: list[list[int]] = []
        while self.step < self.total:
            epoch, place = divmod(self.step, self.per_epoch)
            if place == 0:
                self.given.forward.begin_epoch(self.given.train)
            if not order or place == 0:
                order = epoch_batches(lengths, self.config.seed, epoch, self.config.batch_size, self.config.order == "shuffled")
            yield [self.given.train[i] for i in order[place]]

    def train_step(self, rows: list[Row]) -> None:
        """One optimiser step. Each micro-batch's losses are divided by the rows of the whole batch, so how the batch is
        split up changes nothing."""
        began = time.perf_counter()
        forward = self.given.forward
        forward.loaded.model.train()
        totals = Totals(forward.objective)
        taken: list[Row] = []
        batch = forward.beside_batch(rows, self.given.reference, self.config.micro_batch)
        for group in by_length(rows, self.config.micro_batch):
            part = [rows[i] for i in group]
            found = forward.rows(part, self.given.reference, batch)
            (found.loss.sum() / len(rows)).backward()  # type: ignore[no-untyped-call]
            totals.add(found)
            taken += part
        lr = learning_rate(self.step, self.total, self.given.lr, self.config)
        norm = torch.nn.utils.clip_grad_norm_(forward.loaded.trainable().values(), self.config.max_grad_norm)
        self._refuse_nan(totals, taken, float(norm))
        for group_ in self.optimizer.param_groups:
            group_["lr"] = lr * group_["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        forward.remember(totals.columns)
        self.step += 1
        if self.step % self.config.log_every == 0 or self.step == self.total:
            seconds = time.perf_counter() - began
            self._write(
                "train",
                len(rows),
                totals,
                {"lr": lr, "grad_norm": float(norm), "tokens_per_s": round(totals.tokens / seconds, 1), "seconds": round(seconds, 4)},
            )

    @torch.no_grad()
    def evaluate(self) -> None:
        """Measure on the held-out rows."""
        rows = self.given.held_out
        if not rows:
            return
        forward = self.given.forward
        totals = Totals(forward.objective)
        forward.loaded.model.eval()
        batch = forward.beside_batch(rows, self.given.reference, self.config.micro_batch)
        for group in by_length(rows, self.config.micro_batch):
            part = [rows[i] for i in group]
            totals.add(forward.rows(part, self.given.reference, batch), self._start(part))
        self._write(self.given.held_out_split, len(rows), totals, {})

    def save(self) -> None:
        forward = self.given.forward
        checkpoint.save(self.out, self.step, forward.loaded, self.optimizer, self.request, self.log.size, forward.memory)
        self.saved = self.step
        self.progress(Event("saved", f"checkpoint of step {self.step}", self.step, self.total))

    def _start(self, rows: Sequence[Row]) -> torch.Tensor | None:
        if self.given.start is None:
            return None
        ends = [(sums[0], sums[len(row.responses) - 1]) for row in rows for sums in [self.given.start(row)]]
        return torch.tensor(ends, dtype=torch.float32, device=self.given.forward.loaded.device)

    def _write(self, split: str, rows: int, totals: Totals, more: dict[str, Any]) -> None:
        epoch = round(self.step / self.per_epoch, 4)
        line = {"step": self.step, "split": split, "epoch": epoch, "rows": rows, "tokens": totals.tokens, **totals.means(), **more}
        self.log.write(line)
        self.progress(Event("step" if split == "train" else "eval", split, self.step, self.total, line))

    def _refuse_nan(self, totals: Totals, rows: Sequence[Row], norm: float) -> None:
        """Stop before the optimiser takes a step that would spoil every weight."""
        bad = [rows[i].id for i in totals.bad_rows()]
        if not bad and math.isfinite(norm):
            return
        what = (
            f"the loss of pair {bad[0]!r}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "") if bad else f"the gradient (norm {norm})"
        )
        kept = f"the checkpoint of step {self.saved} is whole" if self.saved is not None else "no checkpoint had been written yet"
        raise PrefdataError(
            f"{what} is not a finite number at step {self.step + 1} of {self.total} (lr {self.given.lr:g}, "
            f"{self.config.dtype}); the step was not taken and {kept}. Lower --lr, or look at the pair."
        )


def learning_rate(step: int, total: int, peak: float, config: TrainConfig) -> float:
    """The rate of a step, counted from 0: linear warm-up, then the schedule; a function of the step alone."""
    warmup = math.ceil(config.warmup_ratio * total)
    if step < warmup:
        return peak * (step + 1) / warmup
    if config.schedule == "constant":
        return peak
    done = (step - warmup) / max(1, total - warmup)
    return peak * (1 - done) if config.schedule == "linear" else peak * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(loaded: Loaded, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; decay on matrices only, as norms and biases have no scale to shrink. People learn at a rate of their own."""
    given = [p for p in loaded.trainable().values() if p is not loaded.people]
    groups = [
        {"params": [p for p in given if p.ndim >= 2], "weight_decay": weight_decay, "factor": 1.0},
        {"params": [p for p in given if p.ndim < 2], "weight_decay": 0.0, "factor": 1.0},
        {"params": [] if loaded.people is None else [loaded.people], "weight_decay": 0.0, "factor": TASTE_RATE / lr},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, fused=loaded.device.type == "cuda")


@contextmanager
def _memory_errors(config: TrainConfig) -> Iterator[None]:
    """Turn the device's out-of-memory error into what to change."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise PrefdataError(
            f"out of memory with {config.micro_batch} pairs at once; lower --micro-batch (the result stays the same) or --max-length, "
            "or turn on --gradient-checkpointing; with --resume the run goes on from its last checkpoint."
        ) from None
