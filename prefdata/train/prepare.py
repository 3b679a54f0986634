"""Everything before the first step: columns, tokens, model, reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.export_io import Export
from prefdata.models.packing_model import can_share_prefix, find_head, load_tokenizer, pick_device
from prefdata.models.packing_tokens import Encoder
from prefdata.train import outdir
from prefdata.train import reference as references
from prefdata.train.columns import REFERENCE, brings_reference, columns_used, is_chat, layout_of
from prefdata.train.config import Event, TrainConfig
from prefdata.train.data import Limit, Plan, Row, Rows, describe_drops, load_rows
from prefdata.train.forward import Forward
from prefdata.train.frozen import encoder_for, is_encoder, load_frozen
from prefdata.train.memory import Memory
from prefdata.train.model import Loaded, compute_dtype, context_of, load_model
from prefdata.train.objective import Objective, sample

_RATES = {"policy": 1e-6, "reward": 1e-5, "frozen": 1e-2}
_CHECKED = 8
"""Pairs on which reference log-probs from an export are compared with the model's own."""


@dataclass(frozen=True)
class Prepared:
    """What the loop works on."""

    forward: Forward
    train: list[Row]
    held_out: list[Row]
    held_out_split: str
    """Its name, or nothing."""
    reference: references.LookUp | None
    start: references.LookUp | None
    """Log-probs of held-out pairs before the first step, to measure shifts from."""
    lr: float
    chat: bool
    dropped: Counter[str]
    notes: list[str]
    export: Export
    model: str


@dataclass
class _Say:
    """Notes go to the progress as they come up and into the run's summary."""

    progress: Callable[[Event], None]
    notes: list[str]

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.progress(Event("note", text))

    def phase(self, text: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(Event("phase", text, done, total))


def prepare(
    objective: Objective,
    export: Export,
    folder: Path,
    source: str,
    out: Path,
    config: TrainConfig,
    request: dict[str, Any],
    progress: Callable[[Event], None],
    stop: Callable[[], bool],
) -> Prepared:
    """From an export and a model folder to rows of tokens, a model on its device and a reference."""
    say = _Say(progress, [])
    used, unread = columns_used(export, objective, config.use, config.ignore)
    if unread:
        say.note(_unread(unread, objective))
    _say_reference(export, objective, config, say)
    objective.losses(*sample(objective, used))
    tokenizer = load_tokenizer(folder)
    _check_frozen(objective, folder, tokenizer, config)
    encoder, train, held_out = _rows(export, objective, folder, tokenizer, config, used, say)
    say.phase("loading the model")(0, 1)
    cache = references.Cache(config.cache_dir or out / outdir.REFERENCE, _cache_name(config, str(request["model_fingerprint"])))
    if config.frozen:
        rows = (train.rows, held_out.rows)
        loaded = load_frozen(folder, tokenizer, config, objective.outputs, rows, cache, say.phase("embeddings"), stop)
        shared = False
    else:
        loaded = load_model(folder, objective.kind, tokenizer, config, encoder.end[-1:], objective.outputs)
        shared = config.share_prefix and _shares(loaded, [*train.rows, *held_out.rows], say)
    head = find_head(loaded) if objective.kind == "policy" else None
    memory = Memory.of(objective, train.rows, config.seed, loaded.device)
    loaded.people = memory.taste
    forward = Forward(loaded, head, objective, shared, memory)
    look_up = start = None
    if objective.kind == "policy":
        look_up, start = _references(forward, train.rows, held_out.rows, cache, config, say, stop)
    rate = config.lr or (_RATES["frozen"] if config.frozen else _RATES[objective.kind] * (10 if config.lora else 1))
    split = export.held_out or ""
    if not held_out.rows:
        split = ""
        say.note("no held-out split: add validation to the export to see whether what is learnt carries over")
    return Prepared(
        forward,
        train.rows,
        held_out.rows,
        split,
        look_up,
        start,
        rate,
        encoder.chat,
        train.dropped + held_out.dropped,
        say.notes,
        export,
        source,
    )


def _cache_name(config: TrainConfig, model: str) -> str:
    """What decides the numbers beside the tokens; the number format follows the device, so it is part of it."""
    numbers = str(compute_dtype(config, pick_device(config.device))).removeprefix("torch.")
    return f"{'features-' + config.frozen if config.frozen else 'logps'}-{model[:16]}-{numbers}"


def _check_frozen(objective: Objective, folder: Path, tokenizer: Any, config: TrainConfig) -> None:
    """An encoder can only be frozen, and a policy cannot."""
    if config.frozen and objective.kind == "policy":
        raise PrefdataError(f"{objective.name} trains a policy, which cannot be frozen; reward models can (reward, regression, ...).")
    if not config.frozen and is_encoder(folder, tokenizer):
        raise PrefdataError(
            f"the model {str(folder)!r} is an encoder, which is not trained here; a reward head on its embeddings is: pass --frozen layers."
        )


def _say_reference(export: Export, objective: Objective, config: TrainConfig, say: _Say) -> None:
    """Reference log-probs in the export that are of no use to an objective which compares with a reference."""
    there = set(REFERENCE[layout_of(export, objective)]) <= set(export.splits["train"].columns)
    if there and objective.reference and not brings_reference(objective) and "ref" not in config.ignore:
        say.note(f"{objective.name} needs the reference's log-probs of more than whole responses: those in the export are not read")


def _unread(columns: Sequence[str], objective: Objective) -> str:
    """What the export says beyond the choice and this run does not hear."""
    able = [c for c in columns if c in objective.needs]
    why = (
        f"--use {' or --use '.join(able)} trains on it"
        if able
        else f"{objective.name} has no use for {'it' if len(columns) == 1 else 'them'}"
    )
    return f"the export's {' and '.join(columns)} {'is' if len(columns) == 1 else 'are'} not read ({why})"


def _rows(
    export: Export, objective: Objective, folder: Path, tokenizer: Any, config: TrainConfig, used: set[str], say: _Say
) -> tuple[Encoder, Rows, Rows]:
    context = context_of(folder)
    if config.max_length and context and config.max_length > context:
        raise BadValue("max_length", config.max_length, f"up to {context}, the model's context")
    chat, plan = is_chat(export), Plan.of(export, objective, config.batch_size)
    if config.frozen:
        encoder = encoder_for(folder, tokenizer, chat)
        context = min(filter(None, (context, tokenizer.model_max_length)), default=None)
    else:
        encoder = Encoder.make(tokenizer, chat=chat, whole_turn=objective.kind == "reward")
    limit = Limit(config.max_length or context, config.truncation, tokenizer.bos_token_id)
    if not chat and tokenizer.chat_template:
        say.note("prompts are plain strings and the model has a chat template: trained as plain text, without it")
    if not encoder.end and objective.kind == "policy":
        say.note("the tokenizer has no end-of-text token: the model cannot learn where a response ends")
    say.phase("tokenising")(0, 1)
    train = load_rows(export.splits["train"], "train", encoder, limit, used, plan)
    split = export.held_out
    held_out = load_rows(export.splits[split], split, encoder, limit, used, plan) if split else Rows([], Counter(), 0)
    _say_drops(train, held_out, limit, config, say)
    return encoder, train, held_out


def _say_drops(train: Rows, held_out: Rows, limit: Limit, config: TrainConfig, say: _Say) -> None:
    dropped, cut = train.dropped + held_out.dropped, train.cut + held_out.cut
    what = f"{describe_drops(dropped)} (limit {limit.tokens} tokens, truncation {config.truncation})"
    if not train.rows:
        raise PrefdataError(f"no training pair is left: {what}; raise --max-length, allow truncation=keep_start, or export other pairs.")
    if dropped:
        say.note(f"left out {what}")
    if cut:
        say.note(f"cut {cut} pairs to {limit.tokens} tokens ({config.truncation})")


def _shares(loaded: Loaded, rows: Sequence[Row], say: _Say) -> bool:
    longest = max(row.length for row in rows)
    if loaded.window is not None and longest > loaded.window:
        say.note(
            f"pairs reach {longest} tokens and the model looks back {loaded.window}: each response is computed with its own "
            "copy of the prompt"
        )
        return False
    if can_share_prefix(loaded):
        return True
    say.note("this model cannot compute a prompt once for two responses: each has its own copy")
    return False


def _references(
    forward: Forward,
    train: list[Row],
    held_out: list[Row],
    cache: references.Cache,
    config: TrainConfig,
    say: _Say,
    stop: Callable[[], bool],
) -> tuple[references.LookUp | None, references.LookUp | None]:
    """Reference look-up for the loss (None where it takes none) and start values of the held-out rows."""

    def compute(rows: list[Row]) -> references.LookUp:
        return references.compute(forward, rows, cache, config.micro_batch, say.phase("reference log-probs"), stop)

    start = compute(held_out) if held_out else None
    if not forward.objective.reference:
        return None, start
    everything = [*train, *held_out]
    if references.from_export(everything):
        _compare(compute(everything[:_CHECKED]), everything[:_CHECKED], say)
        return references.brought, start
    if any(row.ref is not None for row in everything):
        say.note("some pairs have no usable reference log-probs in the export: all are computed with the starting model")
    return compute(everything), start


def _compare(own: references.LookUp, rows: Sequence[Row], say: _Say) -> None:
    """A reference other than the starting model is legitimate, and more often a mistake: say so."""
    tokens = sum(len(r) for row in rows for r in row.responses)
    off = sum(abs(a - b) for row in rows for a, b in zip(own(row), references.brought(row), strict=False)) / tokens
    if off > 0.01:
        say.note(
            f"the export's reference log-probs differ from the starting model's by {off:.3f} nats per token on {len(rows)} "
            "pairs: they come from another model or template, so training does not start at a margin of 0"
        )
    else:
        say.note("reference log-probs read from the export")
