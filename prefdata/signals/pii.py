"""Signal: personal data and secrets in a response."""

from __future__ import annotations

from typing import Literal

import polars as pl

from prefdata.core import pii as personal
from prefdata.core.method import method


@method(version=1, subject="response", needs=("text",), gives={"pii": "count"})
def pii(rows: pl.DataFrame, *, kinds: list[Literal["email", "phone", "iban", "card", "ip", "ssn", "secret"]] | None = None) -> pl.DataFrame:
    """How many email addresses, phone, bank, card and social security numbers, public IP addresses and keys a response holds.

    By pattern, and by checksum where there is one (IBAN mod 97, Luhn); reserved examples such as a@example.com do not count.
    Names and street addresses are not found: 0 means no such number, not no personal data.

    Args:
        kinds: which of them count; null: all.
    """
    found = personal.counts(rows["text"])
    return found.select(pii=pl.sum_horizontal(list(kinds or personal.KINDS), ignore_nulls=False))
