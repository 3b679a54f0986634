"""Which columns of an export a run reads: the texts its rows are made of, and the labels beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from prefdata.core.errors import PrefdataError
from prefdata.core.export_io import Export
from prefdata.train.objective import LABELS, Objective

Layout = Literal["pairs", "inside", "unpaired", "lists"]
"""pairs: prompt, chosen, rejected. inside: chosen and rejected with the prompt inside. unpaired: prompt, completion and
label. lists: prompt, responses (best first, or with scores)."""
TEXTS: dict[Layout, tuple[str, ...]] = {
    "pairs": ("prompt", "chosen", "rejected"),
    "inside": ("chosen", "rejected"),
    "unpaired": ("prompt", "completion"),
    "lists": ("prompt",),
}
REFERENCE: dict[Layout, tuple[str, ...]] = {
    "pairs": ("ref_logp_chosen", "ref_logp_rejected"),
    "inside": ("ref_logp_chosen", "ref_logp_rejected"),
    "unpaired": ("ref_logp",),
    "lists": ("ref_logps",),
}
"""Where an export brings reference log-probs, summed over each response's tokens."""
ALWAYS = ("annotator", "rationale", "rejected_prompt", "chosen_spans", "rejected_spans")
"""Columns that an objective which names them cannot do without."""


def layout_of(export: Export, objective: Objective) -> Layout:
    """How the training rows stand in the export, as far as the objective is concerned."""
    columns = export.splits["train"].columns
    if "completion" in columns and "chosen" not in columns and (objective.shape == "unpaired" or objective.attributes):
        return "unpaired"
    if "responses" in columns and objective.shape == "ranked":
        return "lists"
    # Whole conversations, the prompt inside, split at their last message; whole texts can only be scored.
    inside = "prompt" not in columns and (is_chat(export) or objective.kind == "reward")
    return "inside" if inside else "pairs"


def is_chat(export: Export) -> bool:
    """Whether prompts (whole rows, where the prompt is inside) are conversations rather than strings."""
    schema = export.splits["train"].schema
    return isinstance(schema["prompt"] if "prompt" in schema else schema.get("chosen"), pl.List)


def columns_used(export: Export, objective: Objective, use: Sequence[str], ignore: Sequence[str]) -> tuple[set[str], list[str]]:
    """The columns beside the texts that this run reads, and those that are there, say something, and stay unread.

    What was asked for and would have no effect is refused.
    """
    train = export.splits.get("train")
    if train is None or not train.height:
        raise PrefdataError(f"the export {str(export.path)!r} has no training rows; export at least one pair to the train split.")
    layout = layout_of(export, objective)
    for split in ("train", export.held_out):
        if split:
            _check_shape(export, split, objective, layout)
    always = {c for c in ALWAYS if c in objective.needs}
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
    if set(REFERENCE[layout]) <= set(train.columns) and "ref" not in ignore and brings_reference(objective):
        read.add("ref")
    unread = [c for c in LABELS if c in train.columns and c not in read and not _neutral(train[c], c)]
    return read | always, unread


def brings_reference(objective: Objective) -> bool:
    """Whether sums over the responses' tokens are all that the objective wants of the reference."""
    sums_do = not {"tokens", "kl"} & set(objective.handed) and "rejected_prompt" not in objective.needs
    return objective.kind == "policy" and objective.reference and sums_do


def _check_shape(export: Export, split: str, objective: Objective, layout: Layout) -> None:
    """The texts are there, as strings or as conversations, like those of the training split."""
    schema, train = export.splits[split].schema, export.splits["train"].schema
    wanted = [*TEXTS[layout], *(c for c in ALWAYS if c in objective.needs), *_rated(objective, layout)]
    wanted += {"unpaired": [] if objective.attributes else ["label"], "lists": ["responses"]}.get(layout, [])
    missing = [c for c in wanted if c not in schema]
    if missing:
        write = {"unpaired": "kto", "lists": "lists"}.get(layout, "dpo")
        more = "" if set(missing) <= {*TEXTS["pairs"], "completion", "label"} else ", or bring these columns along"
        raise PrefdataError(
            f"{objective.name} needs the columns {', '.join(wanted[:-1])} and {wanted[-1]}, and the split {split} of "
            f"{str(export.path)!r} (kind {export.kind}) lacks {', '.join(missing)}; write it with the {write} export{more}."
        )
    for column in TEXTS[layout]:
        kind = schema[column]
        texts = isinstance(kind, pl.String | pl.Null) or (isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct))
        if not texts or (column in train and isinstance(kind, pl.List) != isinstance(train[column], pl.List)):
            raise PrefdataError(
                f"the column {column} of the split {split} holds {kind}; it must hold strings, or lists of {{role, content}}, in "
                f"every split of {str(export.path)!r} alike."
            )


def _rated(objective: Objective, layout: Layout) -> list[str]:
    """The columns of a regression's ratings."""
    sides = ("",) if layout == "unpaired" else ("chosen_", "rejected_")
    return [side + name for side in sides for name in objective.attributes]


def ratings(raw: Mapping[str, Any], objective_attributes: Sequence[str], layout: Layout) -> tuple[tuple[Any, ...], ...]:
    """The ratings of each response of a row, None where there is none."""
    sides = ("",) if layout == "unpaired" else ("chosen_", "rejected_")
    return tuple(tuple(raw.get(side + name) for name in objective_attributes) for side in sides)


def _neutral(values: pl.Series, column: str) -> bool:
    """All null, or all at the value that changes nothing."""
    if values.null_count() == len(values):
        return True
    numbers = values.cast(pl.Float64, strict=False) if values.dtype == pl.Boolean or values.dtype.is_numeric() else None
    usual = 1.0 if column == "p" else 0.0
    return numbers is not None and not numbers.has_nulls() and bool((numbers == usual).all())


def _readers(column: str) -> list[str]:
    from prefdata.core.catalogue import shelf_methods

    found = [m.name for shelf in ("losses", "heads") for m in shelf_methods(shelf).values() if column in m.header["needs"]]
    return ["reward" if name == "bradley_terry" else name for name in found]
