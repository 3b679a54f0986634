"""Personal data and secrets in a column of texts: by pattern, and by checksum where the number has one.

    email    addresses, those of example.com and the like aside
    phone    international numbers with a plus, North American ones with their usual marks; fictional 555-01xx aside
    iban     by country, length and the checksum of ISO 13616 (mod 97)
    card     payment cards: issuer, length and the Luhn checksum of ISO/IEC 7812
    ip       public IPv4 addresses, and IPv6 written out; private, local and documentation ranges aside
    ssn      United States social security numbers that were or can be issued
    secret   keys of well-known services and private key blocks

Names, addresses and national numbers without a checksum are not looked for: that takes a model. A number written as
words, or with other marks than usual, is missed; a version such as 8.8.4.4 is taken for an address.
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl

KINDS = ("email", "phone", "iban", "card", "ip", "ssn", "secret")

_B = r"(?-u:\b)"  # of ASCII words: the quick way through a text in any script
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = rf"[A-Za-z0-9][A-Za-z0-9._%+-]{{0,63}}@{_LABEL}(?:\.{_LABEL})*\.[A-Za-z]{{2,24}}{_B}"
_RESERVED = r"(?i)@(?:.*\.)?(?:example\.(?:com|net|org|edu)|[a-z0-9-]+\.(?:example|test|invalid)|(?:your)?(?:domain|email|company)\.com)$"
_PHONE = (
    rf"\+[0-9]{{1,3}}[ .-]?(?:\([0-9]{{1,4}}\)[ .-]?)?[0-9](?:[ .-]?[0-9]){{6,12}}{_B}|\([0-9]{{3}}\) ?[0-9]{{3}}[-. ][0-9]{{4}}{_B}"
    rf"|{_B}(?:1[-. ])?[0-9]{{3}}[-.][0-9]{{3}}[-.][0-9]{{4}}{_B}"
)
_FICTIONAL = r"55501[0-9][0-9]$"
_NORTH_AMERICA = r"^1?[2-9][0-9]{2}[2-9][0-9]{6}$"
_IBAN = rf"{_B}[A-Z]{{2}}[0-9]{{2}}(?: ?[A-Z0-9]{{1,4}}){{3,8}}{_B}"
_DIGITS = r"[0-9](?:[ -]?[0-9])*"
_GROUPED = r"^(?:[0-9]{13,19}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{1,7}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5})$"
_ISSUERS = (
    r"^(?:4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|(?:6011|65[0-9]{2}|64[4-9][0-9])[0-9]{12}|35(?:2[89]|[3-8][0-9])[0-9]{12}|3(?:0[0-5]|[689][0-9])[0-9]{11}"
    r"|62[0-9]{14,17})$"
)
_IPV4 = r"[0-9]+(?:\.[0-9]+)+"
_IPV6 = rf"{_B}(?:[0-9a-fA-F]{{1,4}}:){{7}}[0-9a-fA-F]{{1,4}}{_B}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_NOT_PUBLIC = (
    r"^(?:0\.|10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|"
    r"(?:22[4-9]|2[3-5][0-9])\.)"
)
_SSN = r"[0-9](?:-?[0-9])*"
_ISSUED = (
    r"^(?:00[1-9]|0[1-9][0-9]|[1-578][0-9][0-9]|6[0-57-9][0-9]|66[0-57-9])-(?:0[1-9]|[1-9][0-9])-"
    r"(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9][0-9]|[1-9][0-9]{3})$"
)
_WELL_KNOWN = r"^(?:123-45-6789|078-05-1120|219-09-9999)$"
_SECRET = (
    rf"{_B}(?:AKIA|ASIA)[0-9A-Z]{{16}}{_B}|{_B}sk-(?:[a-z]+-)*[A-Za-z0-9_]{{20,}}|{_B}gh[pousr]_[A-Za-z0-9]{{36}}"
    rf"|{_B}github_pat_[A-Za-z0-9_]{{50,}}|{_B}hf_[A-Za-z0-9]{{34}}{_B}|{_B}xox[abprs]-[A-Za-z0-9-]{{10,}}|{_B}AIza[0-9A-Za-z_-]{{35}}"
    rf"|{_B}[sr]k_live_[0-9A-Za-z]{{24,}}|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
)
_SECRET_HINTS = [
    "AKIA",
    "ASIA",
    "sk-",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "hf_",
    "xox",
    "AIza",
    "k_live_",
    "PRIVATE KEY",
]
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22 "
    "GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
    "MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 "
    "VA22 VG24 XK20"
)
_IBAN_LENGTH = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}


def counts(texts: pl.Series) -> pl.DataFrame:
    """One column for each of `KINDS`, row by row; null for null."""
    table = texts.alias("text").to_frame().with_row_index("row")
    text = pl.col("text")
    numbers = table.filter(text.str.contains("[0-9][ .-]?[0-9]"))
    found = {
        "email": _hits(table.filter(text.str.contains("@", literal=True)), _EMAIL).filter(~pl.col("hit").str.contains(_RESERVED)),
        "phone": _phones(numbers),
        "iban": _hits(numbers, _IBAN).filter(pl.col("hit").map_elements(is_iban, return_dtype=pl.Boolean)),
        "card": _cards(numbers),
        "ip": pl.concat([_addresses(numbers), _hits(numbers, _IPV6)]),
        "ssn": _social(numbers),
        "secret": _hits(table.filter(text.str.contains_any(_SECRET_HINTS)), _SECRET),
    }
    counted = table.select("row", known=text.is_not_null())
    for kind, hits in found.items():
        counted = counted.join(hits.group_by("row").len(kind), on="row", how="left", maintain_order="left")
    return counted.select(pl.when("known").then(pl.col(kind).fill_null(0)).alias(kind) for kind in KINDS)


def _hits(rows: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Every match: row, hit."""
    return rows.select("row", hit=pl.col("text").str.extract_all(pattern)).explode("hit").drop_nulls("hit")


def _phones(rows: pl.DataFrame) -> pl.DataFrame:
    digits = pl.col("hit").str.replace_all("[^0-9]", "")
    abroad = pl.col("hit").str.starts_with("+") & ~digits.str.starts_with("1") & digits.str.len_bytes().is_between(8, 15)
    return _hits(rows, _PHONE).filter(abroad | digits.str.contains(_NORTH_AMERICA), ~digits.str.contains(_FICTIONAL))


def _cards(rows: pl.DataFrame) -> pl.DataFrame:
    runs = _hits(rows, _DIGITS).filter(pl.col("hit").str.len_bytes().is_between(13, 23), pl.col("hit").str.contains(_GROUPED))
    runs = runs.with_columns(digits=pl.col("hit").str.replace_all("[^0-9]", ""))
    runs = runs.filter(pl.col("digits").str.contains(_ISSUERS))
    return runs.filter(_luhn(runs["digits"]))


def _luhn(digits: pl.Series) -> pl.Series:
    """Whether strings of up to 20 digits pass the Luhn check."""
    padded = "".join(digits.str.zfill(20).to_list())
    table = np.frombuffer(padded.encode(), dtype=np.uint8).reshape(-1, 20).astype(np.int64) - ord("0")
    table[:, 0::2] *= 2  # every second from the right
    table[table > 9] -= 9
    return pl.Series(table.sum(axis=1) % 10 == 0, dtype=pl.Boolean)


def is_iban(text: str) -> bool:
    """Whether a text starts with an IBAN: spaces do not matter, nor what follows."""
    bare = text.replace(" ", "")
    number = bare[: _IBAN_LENGTH.get(bare[:2], 0)]
    if len(number) < _IBAN_LENGTH.get(bare[:2], 99) or not re.fullmatch("[A-Z]{2}[0-9]{2}[A-Z0-9]+", number):
        return False
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def _addresses(rows: pl.DataFrame) -> pl.DataFrame:
    whole = rf"^{_OCTET}(?:\.{_OCTET}){{3}}$"
    return _hits(rows, _IPV4).filter(pl.col("hit").str.contains(whole), ~pl.col("hit").str.contains(_NOT_PUBLIC))


def _social(rows: pl.DataFrame) -> pl.DataFrame:
    """Area not 000, 666 or 9xx, group not 00, serial not 0000; numbers that stand in examples everywhere are none."""
    return _hits(rows, _SSN).filter(pl.col("hit").str.contains(_ISSUED), ~pl.col("hit").str.contains(_WELL_KNOWN))
