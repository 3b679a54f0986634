"""Identity: 128-bit content hashes, written as UUID text, the same in Python and in SQL.

The SQL twins of these functions stand in `ingest.py`; a property test holds both together.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

UNIT, RECORD = "\x1f", "\x1e"


def hash_uuid(text: str) -> str:
    """MD5 of the UTF-8 text as UUID text (identity, not security)."""
    return str(uuid.UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest()))


def canonical_json(value: Any) -> str:
    """One JSON text per value: sorted keys, no spaces, characters as they are."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text whose hash is the prompt's identity: `role US content RS`, one after the other.

    Content that is not a string (parts with images) and further keys (tool calls, names) enter as canonical JSON.
    """
    out = []
    for message in messages:
        content = message.get("content")
        text = content if isinstance(content, str) else canonical_json(content)
        rest = {k: v for k, v in message.items() if k not in ("role", "content") and v is not None}
        extra = UNIT + canonical_json(rest) if rest else ""
        out.append(f"{message['role']}{UNIT}{text}{extra}{RECORD}")
    return "".join(out)


def prompt_id(messages: Sequence[Mapping[str, Any]]) -> str:
    return hash_uuid(canonical_messages(messages))


def response_id(prompt: str, text: str, model: str = "", sample: int = 0) -> str:
    """Identity of a candidate: its prompt, text, producer and sample index."""
    return hash_uuid(f"{prompt}{UNIT}{model}{UNIT}{sample}{UNIT}{text}")


def pair_id(first: str, second: str) -> str:
    """Identity of an unordered pair of response ids."""
    return hash_uuid(min(first, second) + max(first, second))
