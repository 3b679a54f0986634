"""From marked stretches of a response's text to weights of its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefdata.core.errors import PrefdataError
from prefdata.models.packing import Ids
from prefdata.models.packing_tokens import Encoder


def weigh_tokens(pair: str, encoder: Encoder, text: str, ids: Ids, spans: Sequence[Mapping[str, Any]] | None) -> npt.NDArray[np.float32]:
    """A weight for each token of `ids`, NaN where no span says one (the tokens that end a response among them).

    Args:
        pair: named in errors.
        encoder: what made `ids` of `text`.
        text: the response.
        ids: its tokens.
        spans: {start, end, weight} in characters of `text`, end exclusive; where they overlap the last one counts.
    """
    weights = np.full(len(ids), np.nan, dtype=np.float32)
    if not spans:
        return weights
    offsets = _offsets(pair, encoder, text, ids)
    for span in spans:
        start, end, weight = _checked(pair, span, len(text))
        for number, (low, high) in enumerate(offsets):
            if low < end and high > start:
                weights[number] = weight
    return weights


def _checked(pair: str, span: Mapping[str, Any], length: int) -> tuple[int, int, float]:
    try:
        start, end, weight = int(span["start"]), int(span["end"]), float(span["weight"])
    except (KeyError, TypeError, ValueError):
        raise PrefdataError(f"pair {pair!r} has the span {dict(span)}; a span is {{start, end, weight}} in characters.") from None
    if not 0 <= start < end <= length or not 0 <= weight < float("inf"):
        raise PrefdataError(
            f"pair {pair!r} has the span {dict(span)}; it must lie within the response's {length} characters, its weight at least 0."
        )
    return start, end, weight


def _offsets(pair: str, encoder: Encoder, text: str, ids: Ids) -> list[tuple[int, int]]:
    """Characters of `text` that each of its tokens covers."""
    if not encoder.tokenizer.is_fast:
        raise PrefdataError("token weights need a fast tokenizer, which knows the characters behind its tokens; save one beside the model.")
    spaced = text if text[:1].isspace() else encoder.gap + text
    for lead in (encoder.lead, ""):
        opening = len(encoder.tokenizer(lead, add_special_tokens=False)["input_ids"]) if lead else 0
        found = encoder.tokenizer(lead + spaced, add_special_tokens=False, return_offsets_mapping=True)
        own = list(found["input_ids"])[opening:]
        if own[: len(ids)] == [int(i) for i in ids[: len(own)]] or own == [int(i) for i in ids]:
            shift = len(lead) + len(spaced) - len(text)
            return [(low - shift, high - shift) for low, high in found["offset_mapping"][opening:]][: len(ids)]
    raise PrefdataError(f"pair {pair!r}: the tokenizer gives other tokens for the response than were trained; export it without spans.")
