"""What a call costs: a small dated table, and the user's own prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from prefdata.core.errors import BadValue, UnknownName

_TABLE = Path(__file__).with_name("prices.yaml")
_FIELDS = ("input", "output")
_ALLOWED = "{input: 0.15, output: 0.60}, US dollars per million tokens"


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens. Discounts (prompt caching) are not known here: costs are never understated."""

    input: float
    output: float

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


FREE = Price(0.0, 0.0)
BATCH_SHARE = 0.5
"""What OpenAI's Batch API costs of the listed price."""


def given(value: Any, where: str) -> Price:
    """The price that a recipe states."""
    if not isinstance(value, Mapping):
        raise BadValue(f"{where}: price", value, _ALLOWED)
    for name in value:
        if name not in _FIELDS:
            raise UnknownName("price", str(name), _FIELDS, f" of {where}")
    for name in _FIELDS:
        amount = value.get(name)
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < float("inf"):
            raise BadValue(f"{where}: price.{name}", amount, _ALLOWED)
    return Price(float(value["input"]), float(value["output"]))


def listed(host: str, model: str, *, batch: bool = False) -> Price | None:
    """The price in the table, by exact name; None where it is not known. Batches cost half."""
    row = _table().get(host, {}).get(model)
    return Price(*(value * (BATCH_SHARE if batch else 1.0) for value in row)) if row else None


@cache
def _table() -> dict[str, dict[str, list[float]]]:
    data = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    hosts: dict[str, dict[str, list[float]]] = data["hosts"]
    return hosts
