"""One request to a model and its identity: a hash over everything that changes the answer, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.core.ids import canonical_json

IMAGE_TOKENS = 3_000
"""Assumed per image where an upper bound of tokens is needed."""
_LONG_URL = 1_000


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: `id` is the identity, `text` the canonical JSON that it hashes."""

    id: str
    text: str
    messages: Sequence[Mapping[str, Any]]
    sampling: Mapping[str, Any]
    sample: int

    @property
    def seed(self) -> int:
        """A number drawn from the identity; local sampling starts from it."""
        return int(self.id[:15], 16)

    def stored(self) -> str:
        """The JSON text for the store: embedded images are replaced by their hash."""
        if '"data:' not in self.text:
            return self.text
        messages = [{**m, "content": [_without_image(part) for part in m["content"]]} if _has_parts(m) else m for m in self.messages]
        return canonical_json({"messages": messages, "sample": self.sample, "sampling": dict(self.sampling)})

    def most_tokens_in(self) -> int:
        """An upper bound of the prompt's tokens: no tokenizer makes more tokens than there are bytes."""
        total = 64
        for message in self.messages:
            content = message.get("content") or ""
            parts = [{"text": content}] if isinstance(content, str) else content
            total += 16 + sum(len(str(p.get("text", "")).encode(errors="replace")) if "text" in p else IMAGE_TOKENS for p in parts)
        return total + len(canonical_json(self.sampling.get("tools", "")))


def build(identity: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], sampling: Mapping[str, Any], sample: int) -> Request:
    """Put a request together; `identity` is what tells the model from others."""
    text = canonical_json({**identity, "messages": messages, "sampling": sampling, "sample": sample})
    return Request(hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(), text, messages, sampling, sample)


def _has_parts(message: Mapping[str, Any]) -> bool:
    return isinstance(message.get("content"), list)


def _without_image(part: Any) -> Any:
    image = part.get("image_url") if isinstance(part, Mapping) else None
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str) or not url.startswith("data:") or len(url) < _LONG_URL:
        return part
    kind, digest = url.partition(",")[0], hashlib.sha256(url.encode()).hexdigest()
    short = f"{kind},sha256={digest}"
    return {**part, "image_url": {**image, "url": short} if isinstance(image, Mapping) else short}
