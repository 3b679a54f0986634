"""What a training run is told, what it reports on the way and what it returns. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from prefdata.core.errors import BadValue, PrefdataError

Truncation = Literal["refuse", "keep_start", "keep_end"]
Schedule = Literal["cosine", "linear", "constant"]
Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run. A loss's own parameters (beta, ...) stand in `params`."""

    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the loss or head; what is not given takes the paper's default."""
    seed: int = 0
    epochs: float = 1.0
    """Passes over the training rows; 0.5 is half a pass."""
    max_steps: int | None = None
    """Optimiser steps; where given it overrules `epochs`."""
    batch_size: int = 32
    """Pairs per optimiser step."""
    micro_batch: int = 8
    """Pairs computed at once; any value gives the same gradient, smaller ones need less memory."""
    lr: float | None = None
    """Peak learning rate; None: 1e-6 for policies (the DPO paper's), 1e-5 for reward models, ten times that with LoRA."""
    warmup_ratio: float = 0.1
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int | None = None
    """Tokens of prompt plus response; None: the model's context."""
    truncation: Truncation = "refuse"
    """A longer pair is dropped and counted (refuse), loses the end of its responses (keep_start) or the start of its prompt (keep_end)."""
    order: Literal["shuffled", "as_given"] = "shuffled"
    """as_given keeps the export's row order (a curriculum)."""
    use: tuple[str, ...] = ()
    """Label columns to train on besides the choice itself: margin, p, tie. One that the objective cannot read is refused; one
    it cannot do without (soft: p) is read anyway; one that is there and not read is mentioned."""
    ignore: tuple[str, ...] = ()
    """Columns that are read wherever they are there, to be left unread: weight, ref (reference log-probs)."""
    log_every: int = 1
    eval_every: int | None = None
    """Steps between measurements on held-out pairs, besides the start and the end; None: about five a run."""
    save_every: int | None = None
    """Steps between checkpoints; None: about ten a run."""
    device: str = "auto"
    dtype: Dtype = "auto"
    """Of the computation; weights and optimiser stay float32. auto: bfloat16 on a GPU that has it, else float32."""
    gradient_checkpointing: bool = False
    share_prefix: bool = True
    """Compute the prompt once for both responses, where the model passes a check that this changes nothing."""
    frozen: Literal["layers", "embedding"] | None = None
    """Reward models: leave the model as it is and train a linear head on its states of all layers (layers), or on its own
    embedding; the only way to train on an encoder, such as a sentence-transformers folder."""
    lora: int | None = None
    """Rank of a LoRA adapter (peft) on all linear layers; None: train every weight."""
    cache_dir: Path | None = None
    """Where reference log-probs are kept; None: inside the run's folder. Runs may share one."""
    resume: bool = False

    def check(self) -> None:
        """Refuse a value outside its range, by name."""
        hints = get_type_hints(TrainConfig)
        for name in ("truncation", "schedule", "dtype", "order"):
            allowed = get_args(hints[name])
            if getattr(self, name) not in allowed:
                raise BadValue(name, getattr(self, name), ", ".join(allowed))
        for name in ("batch_size", "micro_batch", "max_steps", "max_length", "log_every", "eval_every", "save_every", "lora"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise BadValue(name, value, "a whole number of at least 1")
        for name in ("epochs", "lr", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadValue(name, value, "a number above 0")
        if not 0 <= self.warmup_ratio <= 1:
            raise BadValue("warmup_ratio", self.warmup_ratio, "a share from 0 to 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise BadValue("weight_decay", self.weight_decay, "a number of at least 0")
        if self.frozen not in (None, "layers", "embedding"):
            raise BadValue("frozen", self.frozen, "layers, embedding")
        if self.frozen and (self.lora or self.gradient_checkpointing):
            other = "lora" if self.lora else "gradient_checkpointing"
            raise PrefdataError(f"{other} has no effect on a frozen model; leave it out, or leave out frozen.")
        for name, columns in (("use", ("margin", "p", "tie")), ("ignore", ("weight", "ref"))):
            for value in getattr(self, name):
                if value not in columns:
                    raise BadValue(name, value, ", ".join(columns))

    def same_run(self) -> dict[str, Any]:
        """The settings that must not change between a checkpoint and its continuation, as JSON values.

        How a batch is computed (micro_batch, device, ...) may change, so that a run can go on with less memory.
        """
        how = {"micro_batch", "device", "gradient_checkpointing", "share_prefix", "cache_dir"}
        free = {"log_every", "eval_every", "save_every", "resume", "params", *how}
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in free}

    def as_dict(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Event:
    """One thing that happened, for whoever shows progress.

    kind is note (a sentence worth reading), phase (a stage of the run; done of total), step, eval, saved or finished.
    """

    kind: Literal["note", "phase", "step", "eval", "saved", "finished"]
    text: str = ""
    done: int = 0
    total: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    out: Path
    objective: str
    steps: int
    rows: dict[str, int]
    """Pairs used per split."""
    dropped: dict[str, int]
    """Pairs left out, by reason."""
    metrics: dict[str, Any]
    """The last held-out measurement where there is a held-out split, else the last training step's."""
    start: dict[str, Any]
    """The same before the first step."""
    notes: tuple[str, ...] = ()
    already: bool = False
    """True where the run had finished before and nothing was computed."""
    kind: str = "policy"
    """policy or reward."""
    unit: str = "pairs"
    """What a row is: pairs, or rows of another kind."""


@dataclass(frozen=True)
class MergeResult:
    """A merged model."""

    out: Path
    method: str
    tensors: int
    """Weights that were combined."""
    norms: dict[str, float]
    """How far each model stands from the base, and the merged one: L2 norm of the difference over all weights."""
