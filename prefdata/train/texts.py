"""A raw row of an export as texts to encode, or the reason why it cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.train.columns import Layout

_WHY = "Why is response 1 the better answer? Give the rationale of your verdict."


@dataclass(frozen=True)
class Texts:
    """What one row says. A prompt is a text or messages; of responses the first is chosen, or best."""

    prompt: Any
    responses: tuple[str, ...]
    rejected_prompt: Any = None
    """The prompt of the rejected response, where it has its own."""
    question: Any = None
    """What a rationale answers."""
    rationale: str = ""


def texts_of(raw: Mapping[str, Any], layout: Layout, chat: bool, used: set[str]) -> Texts | str:
    """The texts of one row, or the reason why it is dropped.

    Args:
        raw: the row.
        layout: how its texts stand in it.
        chat: whether prompts are conversations.
        used: the other columns that the run reads.
    """
    found = _responses(raw, layout, chat)
    if isinstance(found, str):
        return found
    prompt, responses = found
    other = raw["rejected_prompt"] if "rejected_prompt" in used else None
    if "rejected_prompt" in used and (not other or (chat and not _all_text(other))):
        return "no_text"
    if "rationale" not in used:
        return Texts(prompt, responses, _messages(other))
    rationale = raw["rationale"]
    if not isinstance(rationale, str) or not rationale.strip():
        return "no_rationale"
    return Texts(prompt, responses, _messages(other), raw.get("rationale_prompt") or _question(prompt, responses, chat), rationale)


def _responses(raw: Mapping[str, Any], layout: Layout, chat: bool) -> tuple[Any, tuple[str, ...]] | str:
    if layout == "inside":
        return _split(raw["chosen"], raw["rejected"]) if chat else _whole(raw)
    prompt = raw["prompt"]
    if not prompt:
        return "no_text"
    values: Sequence[Any]
    if layout == "lists":
        values = raw["responses"] or []
        if len(values) < 2:
            return "one_response"
    else:
        values = [raw["completion"]] if layout == "unpaired" else [raw["chosen"], raw["rejected"]]
    replies = tuple(_reply(value) for value in values)
    if any(reply is None for reply in replies):
        return "no_text" if any(value is None for value in values) else "not_one_reply"
    return (_messages(prompt), replies) if not chat or _all_text(prompt) else "no_text"  # type: ignore[return-value]


def _split(chosen: Any, rejected: Any) -> tuple[Any, tuple[str, ...]] | str:
    """Two whole conversations: the prompt is all but the last message, and must be the same."""
    if not chosen or not rejected:
        return "no_text"
    prompt, replies = chosen[:-1], (_reply(chosen[-1:]), _reply(rejected[-1:]))
    if replies[0] is None or replies[1] is None:
        return "not_one_reply"
    if prompt != rejected[:-1] or not prompt:
        return "two_prompts"
    return (_messages(prompt), (replies[0], replies[1])) if _all_text(prompt) else "no_text"


def _whole(raw: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]] | str:
    """Two whole texts, for a reward model: there is no telling where the prompt ends, nor any need to."""
    return ("", (raw["chosen"], raw["rejected"])) if raw["chosen"] and raw["rejected"] else "no_text"


def _question(prompt: Any, responses: Sequence[str], chat: bool) -> Any:
    """The pair laid out, and the question a rationale answers."""
    asked = "\n\n".join(str(m["content"]) for m in prompt) if chat else prompt
    text = f"{asked}\n\nResponse 1:\n{responses[0]}\n\nResponse 2:\n{responses[1]}\n\n{_WHY}"
    return [{"role": "user", "content": text}] if chat else text + "\n\n"


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
