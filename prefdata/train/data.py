"""An export's rows as token ids: checked, cut to length by the stated rule, every row left out counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core.errors import PrefdataError
from prefdata.core.export_io import Export
from prefdata.models.packing import Ids, fit
from prefdata.models.packing_tokens import Encoder
from prefdata.train.columns import REFERENCE, Layout, layout_of, ratings
from prefdata.train.config import Truncation
from prefdata.train.objective import LABELS, Objective, Shape
from prefdata.train.spans import weigh_tokens
from prefdata.train.texts import Texts, texts_of

REASONS = {
    "no_text": "a prompt or response is empty or not text",
    "no_rationale": "the rationale is empty or not text",
    "not_one_reply": "a response is not one assistant message",
    "one_response": "a list has fewer than two responses",
    "two_prompts": "chosen and rejected do not answer the same prompt",
    "template": "the chat template refuses the conversation",
    "too_long": "prompt plus response exceed the length limit",
    "prompt_fills": "the prompt alone fills the length limit, no response token would be left",
    "response_fills": "a response alone fills the length limit",
    "identical": "the responses are the same tokens, so there is nothing to learn",
    "all_tied": "all responses of the list have one score, so there is nothing to learn",
    "not_rated": "no attribute was rated",
}
_SLICE = 2000


@dataclass(frozen=True)
class Row:
    """One row as tokens, prompt and responses apart. `responses` are chosen and rejected, or one, or a list, best first."""

    id: str
    prompt: Ids
    responses: tuple[Ids, ...]
    weight: float | None = None
    margin: float | None = None
    p: float | None = None
    tie: float | None = None
    good: bool | None = None
    """Of a single response."""
    scores: tuple[float, ...] | None = None
    """Of a list's responses."""
    wanted: tuple[tuple[float, ...], ...] | None = None
    """Each response's ratings, NaN where unknown."""
    annotator: str | None = None
    token_weights: tuple[npt.NDArray[np.float32], ...] | None = None
    """Each response's tokens, NaN outside the marked spans."""
    beside: tuple[Ids, Ids] | None = None
    """A further prompt and response: the question and its rationale, or the prompt and another prompt's response."""
    ref: tuple[float, ...] | None = None
    """Reference log-probs (summed) that the export brought, one per response."""

    @property
    def length(self) -> int:
        """Tokens with the prompt counted once."""
        return len(self.prompt) + sum(map(len, self.responses)) + (sum(map(len, self.beside)) if self.beside else 0)

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


@dataclass(frozen=True)
class Plan:
    """How the objective wants the export's rows."""

    layout: Layout = "pairs"
    shape: Shape = "pairs"
    attributes: tuple[str, ...] = ()
    mismatched: int = 0
    """Responses are also put behind other prompts, in blocks of so many rows; 0: they are not."""

    @classmethod
    def of(cls, export: Export, objective: Objective, batch_size: int) -> Plan:
        block = batch_size if "kl" in objective.handed else 0
        return cls(layout_of(export, objective), objective.shape, objective.attributes, block)


def load_rows(frame: pl.DataFrame, split: str, encoder: Encoder, limit: Limit, used: set[str], plan: Plan | None = None) -> Rows:
    """Tokenise one split.

    Args:
        frame: its rows.
        split: its name, which names rows that have no id.
        encoder: of the model's tokenizer.
        limit: on the tokens of a sequence.
        used: columns to read beside the texts.
        plan: how the rows stand and are wanted; None: pairs.
    """
    plan = plan or Plan(layout="pairs" if "prompt" in frame.columns else "inside")
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    cut = 0
    for raw in frame.with_row_index("_row").iter_slices(_SLICE):
        for got in _encode(raw.to_dicts(), split, encoder, used, plan):
            row = _fit(got, limit) if isinstance(got, Row) else got
            if isinstance(row, str):
                dropped[row] += 1
                continue
            cut += row is not got
            rows += _as(row, plan.shape)
    return Rows(_mismatch(rows, plan.mismatched, limit.tokens) if plan.mismatched else rows, dropped, cut)


def _encode(raws: list[dict[str, Any]], split: str, encoder: Encoder, used: set[str], plan: Plan) -> Iterator[Row | str]:
    """Each raw row as a Row, or the reason why not."""
    checked = [texts_of(raw, plan.layout, encoder.chat, used) for raw in raws]
    good = [t for t in checked if isinstance(t, Texts)]
    prompts, others, questions = (
        iter(encoder.prompts([t for t in some if t is not None]))
        for some in ([t.prompt for t in good], [t.rejected_prompt for t in good], [t.question for t in good])
    )
    responses = iter(encoder.responses([text for t in good for text in t.responses]))
    rationales = iter(encoder.responses([t.rationale for t in good if t.question is not None]))
    for raw, texts in zip(raws, checked, strict=True):
        if isinstance(texts, str):
            yield texts
            continue
        prompt, replies = next(prompts), tuple(next(responses) for _ in texts.responses)
        other = next(others) if texts.rejected_prompt is not None else prompt
        question = next(questions) if texts.question is not None else prompt
        beside = (question, next(rationales)) if texts.question is not None and question is not None else None
        if prompt is None or other is None or question is None:
            yield "template"
        elif not all(map(len, replies)) or (not len(prompt) and plan.layout != "inside"):
            yield "no_text"
        else:
            name = str(raw.get("pair_id") or f"{split} row {raw['_row']}")
            row = _labelled(Row(name, prompt, replies, beside=beside), raw, texts, encoder, used, plan)
            yield row if isinstance(row, str) or texts.rejected_prompt is None else _joint(row, other, encoder)


def _labelled(row: Row, raw: Mapping[str, Any], texts: Texts, encoder: Encoder, used: set[str], plan: Plan) -> Row | str:
    """The row with everything that is said about it."""
    numbers = {c: _number(row.id, c, raw.get(c)) for c in ("weight", *LABELS) if c in used}
    if any(numbers.get(c, 0) > 1 for c in ("p", "tie")) or any(numbers.get(c, 0) < 0 for c in ("weight", "p", "tie")):
        raise PrefdataError(
            f"pair {row.id!r} has {numbers}; a weight must be at least 0, p a probability from 0 to 1 and tie true or false."
        )
    more: dict[str, Any] = dict(numbers)
    if "annotator" in used:
        more["annotator"] = _name(row.id, raw.get("annotator"))
    if "chosen_spans" in used:
        spans = (raw["chosen_spans"], raw["rejected_spans"])
        parts = zip(texts.responses, row.responses, spans, strict=True)
        more["token_weights"] = tuple(weigh_tokens(row.id, encoder, text, ids, some) for text, ids, some in parts)
    if plan.attributes:
        more["wanted"] = tuple(tuple(_rating(row.id, value) for value in side) for side in ratings(raw, plan.attributes, plan.layout))
        if np.isnan(more["wanted"]).all():
            return "not_rated"
    if plan.layout == "unpaired" and plan.shape == "unpaired":
        more["good"] = _verdict(row.id, raw["label"])
    if plan.layout == "lists":
        return _ranked(replace(row, **more), raw, used)
    return replace(row, **more, ref=_reference(row, raw, plan.layout) if "ref" in used else None)


def _reference(row: Row, raw: Mapping[str, Any], layout: Layout) -> tuple[float, ...] | None:
    """Log-probs that came with the export; they must be over the tokens that are trained."""
    columns = REFERENCE[layout]
    if any(raw.get(c) is None for c in columns):
        return None
    for column, ids in zip(("n_chosen", "n_rejected"), row.responses, strict=False):
        said = raw.get(column)
        if said is not None and int(said) != len(ids):
            raise PrefdataError(
                f"pair {row.id!r}: the export's reference log-probs cover {int(said)} tokens ({column}), this model's tokenizer "
                f"makes {len(ids)}; compute them with this model, or pass --ignore ref to have them computed now."
            )
    return tuple(_number(row.id, c, raw[c]) for c in columns)


def _ranked(row: Row, raw: Mapping[str, Any], used: set[str]) -> Row | str:
    """The list with the best response first; without scores it is given in that order."""
    count = len(row.responses)
    scores = raw.get("scores")
    if scores is not None and len(scores) != count:
        raise PrefdataError(f"row {row.id!r} has {count} responses and {len(scores)} scores; give one score per response, or none.")
    values = [float(count - 1 - i) for i in range(count)] if scores is None else [_number(row.id, "scores", s) for s in scores]
    order = sorted(range(count), key=lambda i: -values[i])
    ref = raw["ref_logps"] if "ref" in used else None
    if ref is not None and len(ref) != count:
        raise PrefdataError(f"row {row.id!r} has {count} responses and {len(ref)} ref_logps; give one per response, or --ignore ref.")
    ranked = replace(
        row,
        responses=tuple(row.responses[i] for i in order),
        scores=tuple(values[i] for i in order),
        ref=None if ref is None else tuple(_number(row.id, "ref_logps", ref[i]) for i in order),
    )
    return "all_tied" if len(set(values)) == 1 else ranked


def _joint(row: Row, other: Ids, encoder: Encoder) -> Row | str:
    """Prompt and response as one text on both sides: what both begin with is the prompt, the rest is scored.

    The shared tokens have one log-probability on both sides and cancel in every difference. Where nothing is shared, the
    token that starts or ends texts stands before both, so that the first token can be predicted, too.
    """
    sides = [np.concatenate([row.prompt, row.responses[0]]), np.concatenate([other, row.responses[1]])]
    most = min(map(len, sides))
    apart = np.flatnonzero(sides[0][:most] != sides[1][:most])
    shared = int(apart[0]) if len(apart) else most - 1
    if shared:
        return replace(row, prompt=sides[0][:shared], responses=tuple(side[shared:] for side in sides))
    start = encoder.tokenizer.bos_token_id if encoder.tokenizer.bos_token_id is not None else encoder.tokenizer.eos_token_id
    if start is None:
        raise PrefdataError(
            f"pair {row.id!r}: the two prompts share no first token and the tokenizer has neither BOS nor EOS to stand before "
            "them; begin all prompts alike."
        )
    return replace(row, prompt=np.asarray([start], dtype=np.int32), responses=tuple(sides))


def _number(pair: str, column: str, value: Any) -> float:
    if isinstance(value, int | float) and np.isfinite(value):
        return float(value)
    raise PrefdataError(
        f"pair {pair!r} has {column} = {value!r}; every pair needs a finite number there, or the column must "
        "stay unread (weight and reference log-probs: --ignore; margin, p and tie: no --use)."
    )


def _rating(pair: str, value: Any) -> float:
    return np.nan if value is None else _number(pair, "a rating", value)


def _name(pair: str, value: Any) -> str:
    if value is None or value == "":
        raise PrefdataError(f"pair {pair!r} has no annotator; every pair needs one, or train an objective that does not ask who judged.")
    return str(value)


def _verdict(pair: str, value: Any) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise PrefdataError(f"row {pair!r} has label = {value!r}; a single response is good (true) or bad (false).")


def _fit(row: Row, limit: Limit) -> Row | str:
    """The row within the length limit, or the reason why it cannot be."""
    fitting = fit(row.prompt, row.responses, limit.tokens, limit.policy, limit.bos)
    if isinstance(fitting, str):
        return fitting
    if limit.tokens is not None and row.longest > limit.tokens:
        weights = row.token_weights and tuple(w[: len(r)] for w, r in zip(row.token_weights, fitting[1], strict=True))
        row = replace(row, prompt=fitting[0], responses=fitting[1], token_weights=weights, ref=None)
    if row.beside and limit.tokens is not None and sum(map(len, row.beside)) > limit.tokens:
        fitting = fit(row.beside[0], row.beside[1:], limit.tokens, limit.policy, limit.bos)
        if isinstance(fitting, str):
            return fitting
        row = replace(row, beside=(fitting[0], fitting[1][0]))
    first, *others = row.responses
    same = bool(others) and row.wanted is None and all(np.array_equal(first, r) for r in others)
    return "identical" if same else row


def _as(row: Row, shape: Shape) -> list[Row]:
    """A pair as the objective wants it: as it is, as one good and one bad response, or as a list of two."""
    if shape == "unpaired" and len(row.responses) == 2:
        sides = zip(("chosen", "rejected"), row.responses, row.ref or (None, None), strict=True)
        return [
            replace(row, id=f"{row.id}:{side}", responses=(ids,), good=side == "chosen", ref=None if ref is None else (ref,))
            for side, ids, ref in sides
        ]
    return [replace(row, scores=(1.0, 0.0))] if shape == "ranked" and row.scores is None else [row]


def _mismatch(rows: list[Row], block: int, most: int | None) -> list[Row]:
    """Put behind every prompt the response of another: of the nearest row before it in its block that has another prompt.

    Blocks are the batches of the given order, so over a batch the mismatched responses are the matched ones.
    """
    found = []
    for number, row in enumerate(rows):
        first = number - number % block
        size = min(block, len(rows) - first)
        near = [first + (number - first - back) % size for back in range(1, size)]
        partner = next((rows[i] for i in [*near, *range(len(rows))] if not np.array_equal(rows[i].prompt, row.prompt)), None)
        if partner is None:
            raise PrefdataError("all rows have one prompt, and the distance from the reference is measured on other prompts' responses.")
        room = len(partner.responses[0]) if most is None else most - len(row.prompt)
        found.append(replace(row, beside=(row.prompt, partner.responses[0][:room])))
    return found


def describe_drops(dropped: Mapping[str, int]) -> str:
    """`12 too_long (prompt plus response exceed the length limit), ...`"""
    return ", ".join(f"{n} {reason} ({REASONS[reason]})" for reason, n in sorted(dropped.items(), key=lambda x: -x[1]))
