"""An export's rows as token ids: checked, cut to length by the stated rule, every row left out counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from prefdata.core.errors import PrefdataError
from prefdata.core.export_io import Export
from prefdata.train.config import Truncation
from prefdata.train.objective import LABELS, REFERENCE, Objective
from prefdata.train.tokens import Encoder, Ids

PAIR = ("prompt", "chosen", "rejected")
REASONS = {
    "no_text": "prompt, chosen or rejected is empty or not text",
    "not_one_reply": "a response is not one assistant message",
    "two_prompts": "chosen and rejected do not answer the same prompt",
    "template": "the chat template refuses the conversation",
    "too_long": "prompt plus response exceed the length limit",
    "prompt_fills": "the prompt alone fills the length limit, no response token would be left",
    "response_fills": "a response alone fills the length limit",
    "identical": "chosen and rejected are the same tokens, so there is nothing to learn",
}
_SLICE = 2000


@dataclass(frozen=True)
class Row:
    """One pair as tokens. Prompt and responses stay apart; `responses` are chosen, then rejected."""

    id: str
    prompt: Ids
    responses: tuple[Ids, ...]
    weight: float | None = None
    margin: float | None = None
    p: float | None = None
    ref: tuple[float, float] | None = None
    """Reference log-probs (summed) that the export brought."""

    @property
    def length(self) -> int:
        """Tokens with the prompt counted once."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def longest(self) -> int:
        """Tokens of the longest single sequence."""
        return len(self.prompt) + max(map(len, self.responses))


@dataclass(frozen=True)
class Rows:
    """The usable rows of one split, what was dropped and why, and how many were cut."""

    rows: list[Row]
    dropped: Counter[str]
    cut: int


@dataclass(frozen=True)
class Limit:
    """The longest sequence and what happens to longer ones."""

    tokens: int | None
    policy: Truncation
    bos: int | None


def columns_used(export: Export, objective: Objective, use: Sequence[str], ignore: Sequence[str]) -> tuple[set[str], list[str]]:
    """The per-pair columns this run reads, and those that are there, say something, and stay unread.

    What was asked for and would have no effect is refused.
    """
    train = export.splits.get("train")
    if train is None or not train.height:
        raise PrefdataError(f"the export {str(export.path)!r} has no training rows; export at least one pair to the train split.")
    for split in ("train", export.held_out):
        if split:
            _check_shape(export, split, objective)
    read = {*use, *objective.required}
    for column in sorted(read):
        if column not in objective.needs:
            others = ", ".join(_readers(column))
            raise PrefdataError(
                f"{objective.name} cannot use the column {column!r}, so it would have no effect; objectives that read it: {others}."
            )
        if column not in train.columns or train[column].null_count() == train.height:
            raise PrefdataError(
                f"{objective.name} is to read the column {column!r} and the export has none; export it, or train without it."
            )
    if "weight" in train.columns and "weight" not in ignore and train["weight"].null_count() < train.height:
        read.add("weight")
    if set(REFERENCE) <= set(train.columns) and "ref" not in ignore and objective.kind == "policy":
        read.add("ref")
    return read, [c for c in LABELS if c in train.columns and c not in read and not _neutral(train[c], c)]


def _check_shape(export: Export, split: str, objective: Objective) -> None:
    """The three texts are there, as strings or as conversations, like those of the training split."""
    schema, train = export.splits[split].schema, export.splits["train"].schema
    # Whole conversations, the prompt inside, split at their last message; whole texts can only be scored.
    inside = "prompt" not in train and (is_chat(export) or objective.kind == "reward")
    missing = [c for c in PAIR if c not in schema and not (inside and c == "prompt")]
    if missing:
        raise PrefdataError(
            f"{objective.name} needs the columns prompt, chosen and rejected, and the split {split} of {str(export.path)!r} "
            f"(kind {export.kind}) lacks {', '.join(missing)}; write it with the dpo export."
        )
    for column in PAIR:
        kind = schema.get(column, pl.String())
        texts = isinstance(kind, pl.String | pl.Null) or (isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct))
        if not texts or (column in train and isinstance(kind, pl.List) != isinstance(train[column], pl.List)):
            raise PrefdataError(
                f"the column {column} of the split {split} holds {kind}; it must hold strings, or lists of {{role, content}}, in "
                f"every split of {str(export.path)!r} alike."
            )


def _neutral(values: pl.Series, column: str) -> bool:
    """All null, or all at the value that changes nothing."""
    usual = 0.0 if column == "margin" else 1.0
    return values.null_count() == len(values) or (values.dtype.is_numeric() and not values.has_nulls() and bool((values == usual).all()))


def _readers(column: str) -> list[str]:
    from prefdata.core.catalogue import shelf_methods

    return [m.name for m in shelf_methods("losses").values() if column in m.header["needs"]] + ["reward"]


def is_chat(export: Export) -> bool:
    """Whether prompts (whole rows, where the prompt is inside) are conversations rather than strings."""
    schema = export.splits["train"].schema
    return isinstance(schema["prompt"] if "prompt" in schema else schema.get("chosen"), pl.List)


def load_rows(frame: pl.DataFrame, split: str, encoder: Encoder, limit: Limit, used: set[str]) -> Rows:
    """Tokenise one split."""
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    cut = 0
    for raw in frame.with_row_index("_row").iter_slices(_SLICE):
        for got in _encode(raw.to_dicts(), split, encoder, used):
            row = _fit(got, limit) if isinstance(got, Row) else got
            if isinstance(row, str):
                dropped[row] += 1
                continue
            cut += row is not got
            rows.append(row)
    return Rows(rows, dropped, cut)


def _encode(raws: list[dict[str, Any]], split: str, encoder: Encoder, used: set[str]) -> Iterator[Row | str]:
    """Each raw row as a Row, or the reason why not."""
    checked = [_texts(raw, encoder.chat) for raw in raws]
    good = [texts for texts in checked if not isinstance(texts, str)]
    prompts = iter(encoder.prompts([t[0] for t in good]))
    chosen = iter(encoder.responses([t[1] for t in good]))
    rejected = iter(encoder.responses([t[2] for t in good]))
    for raw, texts in zip(raws, checked, strict=True):
        if isinstance(texts, str):
            yield texts
            continue
        prompt, responses = next(prompts), (next(chosen), next(rejected))
        if prompt is None:
            yield "template"
        elif not all(map(len, responses)) or (not len(prompt) and "prompt" in raw):
            yield "no_text"
        else:
            name = str(raw.get("pair_id") or f"{split} row {raw['_row']}")
            yield _labelled(Row(name, prompt, responses), raw, used)


def _texts(raw: Mapping[str, Any], chat: bool) -> tuple[Any, str, str] | str:
    """Prompt (messages or text) and the two response texts, or the reason why the row cannot be used."""
    if "prompt" not in raw:
        return _split(raw["chosen"], raw["rejected"]) if chat else _whole(raw)
    prompt = raw["prompt"]
    if not prompt:
        return "no_text"
    chosen, rejected = _reply(raw["chosen"]), _reply(raw["rejected"])
    if chosen is None or rejected is None:
        return "no_text" if raw["chosen"] is None or raw["rejected"] is None else "not_one_reply"
    return (_messages(prompt), chosen, rejected) if not chat or _all_text(prompt) else "no_text"


def _split(chosen: Any, rejected: Any) -> tuple[Any, str, str] | str:
    """Two whole conversations: the prompt is all but the last message, and must be the same."""
    if not chosen or not rejected:
        return "no_text"
    prompt, replies = chosen[:-1], (_reply(chosen[-1:]), _reply(rejected[-1:]))
    if replies[0] is None or replies[1] is None:
        return "not_one_reply"
    if prompt != rejected[:-1] or not prompt:
        return "two_prompts"
    return (_messages(prompt), replies[0], replies[1]) if _all_text(prompt) else "no_text"


def _whole(raw: Mapping[str, Any]) -> tuple[Any, str, str] | str:
    """Two whole texts, for a reward model: there is no telling where the prompt ends, nor any need to."""
    return ("", raw["chosen"], raw["rejected"]) if raw["chosen"] and raw["rejected"] else "no_text"


def _messages(prompt: Any) -> Any:
    """Messages without the keys that polars filled with null because other messages have them."""
    return [{k: v for k, v in m.items() if v is not None} for m in prompt] if isinstance(prompt, list) else prompt


def _all_text(prompt: list[Any]) -> bool:
    return all(isinstance(m.get("content"), str) for m in prompt)


def _reply(value: Any) -> str | None:
    """The text of a response: a string, or a list of one assistant message."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and value[0].get("role") == "assistant":
        value = value[0].get("content")
    return value if isinstance(value, str) else None


def _labelled(row: Row, raw: Mapping[str, Any], used: set[str]) -> Row:
    numbers = {c: _number(row.id, c, raw.get(c)) for c in ("weight", *LABELS) if c in used}
    if ("p" in numbers and numbers["p"] > 1) or any(numbers.get(c, 0) < 0 for c in ("weight", "p")):
        raise PrefdataError(f"pair {row.id!r} has {numbers}; a weight must be at least 0 and p a probability from 0 to 1.")
    ref = None
    if "ref" in used and all(raw.get(c) is not None for c in REFERENCE):
        ref = (_number(row.id, REFERENCE[0], raw[REFERENCE[0]]), _number(row.id, REFERENCE[1], raw[REFERENCE[1]]))
        _same_count(row, raw)
    return replace(row, **numbers, ref=ref)  # type: ignore[arg-type]


def _number(pair: str, column: str, value: Any) -> float:
    if isinstance(value, int | float) and np.isfinite(value):
        return float(value)
    raise PrefdataError(
        f"pair {pair!r} has {column} = {value!r}; every pair needs a finite number there, or the column must "
        "stay unread (weight and reference log-probs: --ignore; margin and p: no --use)."
    )


def _same_count(row: Row, raw: Mapping[str, Any]) -> None:
    """Log-probs that came with the export must be over the tokens that are trained."""
    for column, ids in zip(("n_chosen", "n_rejected"), row.responses, strict=True):
        said = raw.get(column)
        if said is not None and int(said) != len(ids):
            raise PrefdataError(
                f"pair {row.id!r}: the export's reference log-probs cover {int(said)} tokens ({column}), this model's tokenizer "
                f"makes {len(ids)}; compute them with this model, or pass --ignore ref to have them computed now."
            )


def _fit(row: Row, limit: Limit) -> Row | str:
    """The row within the length limit, or the reason why it cannot be."""
    most = limit.tokens
    if most is not None and row.longest > most:
        if limit.policy == "refuse":
            return "too_long"
        cut = _keep_start(row, most) if limit.policy == "keep_start" else _keep_end(row, most, limit.bos)
        if isinstance(cut, str):
            return cut
        row = replace(cut, ref=None)
    chosen, rejected = row.responses
    return "identical" if np.array_equal(chosen, rejected) else row


def _keep_start(row: Row, most: int) -> Row | str:
    room = most - len(row.prompt)
    return "prompt_fills" if room < 1 else replace(row, responses=tuple(r[:room] for r in row.responses))


def _keep_end(row: Row, most: int, bos: int | None) -> Row | str:
    """Cut the prompt's start but for BOS; the responses stay whole."""
    room = most - max(map(len, row.responses))
    head = row.prompt[:1] if bos is not None and row.prompt[0] == bos else row.prompt[:0]
    if room < len(head) + 1:
        return "response_fills"
    return replace(row, prompt=np.concatenate([head, row.prompt[len(row.prompt) - (room - len(head)) :]]))


def describe_drops(dropped: Mapping[str, int]) -> str:
    """`12 too_long (prompt plus response exceed the length limit), ...`"""
    return ", ".join(f"{n} {reason} ({REASONS[reason]})" for reason, n in sorted(dropped.items(), key=lambda x: -x[1]))
