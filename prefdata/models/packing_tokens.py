"""From text to token ids, with the boundary between prompt and response exact.

The prompt is encoded as a generating model gets it, and the response as it stands behind it: a tokenizer that marks the
start of a text would otherwise mark the start of every response, and a template that writes a space before a reply would
lose it. Both are kept apart, so the prompt's tokens are always a true prefix that all responses share; a merge across the
boundary cannot happen. What ends a response is appended as ids, exactly once, even where the text already ended with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from prefdata.core.errors import PrefdataError
from prefdata.models.packing import Ids
from prefdata.models.protocol import CallFailed

_MARK = "qzresponsezq"
"""Stands for a text when the template is asked what it writes around it."""
_HELLO = "qzhelloqz"


@dataclass(frozen=True)
class Encoder:
    """Encodes prompts and responses for one tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    chat: bool
    end: tuple[int, ...]
    """What ends a response."""
    role: str = "assistant"
    """Whose turn a response is."""
    before: str = ""
    """What the template writes before a reply's own words and a generation prompt leaves out (an empty thought, say); it
    counts as prompt."""
    gap: str = ""
    """Spaces that the template writes before the text itself; they belong to the text's first token."""
    lead: str = ""
    """The text that stands right before a response, from the last special token on: tokens depend on it."""

    @classmethod
    def make(cls, tokenizer: PreTrainedTokenizerBase, *, chat: bool, whole_turn: bool, role: str = "assistant") -> Encoder:
        """Find out what stands around a response.

        Args:
            tokenizer: the model's.
            chat: prompts are conversations, to be written by the chat template.
            whole_turn: keep all that the template writes after a reply (a newline, say), as scorers do that render
                the whole conversation; else stop at the end-of-turn token, as a generating model does.
            role: whose turn the response is; a user's words are scored without any end, since a model never says it.
        """
        eos = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        if not chat:
            return cls(tokenizer, False, eos, lead="\n" if _marks_starts(tokenizer) else "")
        if not tokenizer.chat_template:
            raise PrefdataError(
                f"the prompts are conversations and the model {tokenizer.name_or_path!r} has no chat template; take a chat "
                "model, put a chat_template into its tokenizer, or give prompts as plain strings."
            )
        if role == "user":
            start, _, _ = _around(tokenizer, _turns("user", "assistant", "user"))
            opening = start.rpartition(_HELLO)[2]
            return cls(tokenizer, True, (), role, gap=_spaces(opening), lead=_tail(tokenizer, opening.rstrip(" ")))
        start, prompt, tail = _around(tokenizer, _turns("user", "assistant"))
        between = start[len(prompt) :] if start.startswith(prompt) else ""
        before = between if between.strip() else ""
        lead = _tail(tokenizer, (prompt + before).rpartition(_HELLO)[2])
        ids = [int(i) for i in tokenizer(tail, add_special_tokens=False, verbose=False)["input_ids"]] if tail else []
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        stop = next((n for n, i in enumerate(ids) if i in special), None)
        end = tuple(ids) if whole_turn else eos if stop is None else tuple(ids[: stop + 1])
        return cls(tokenizer, True, end, role, before, between.removeprefix(before), lead)

    def prompts(self, prompts: Sequence[Any]) -> list[Ids | None]:
        """Ids of each prompt; None where the chat template refuses it."""
        if not self.chat:
            encoded = self.tokenizer(list(prompts), verbose=False)["input_ids"] if prompts else []
            return [_ids(self._without_eos(ids)) for ids in encoded]
        texts = [self._render(messages) for messages in prompts]
        good = [t for t in texts if t is not None]
        encoded = iter(self.tokenizer(good, add_special_tokens=False, verbose=False)["input_ids"] if good else [])
        return [None if t is None else _ids(next(encoded)) for t in texts]

    def responses(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each response with its end."""
        if not texts:
            return []
        spaced = [text if text.startswith(" ") else self.gap + text for text in texts]
        encoded = self.tokenizer([self.lead + text for text in spaced], add_special_tokens=False, verbose=False)["input_ids"]
        opening = list(self.tokenizer(self.lead, add_special_tokens=False, verbose=False)["input_ids"]) if self.lead else []
        found = []
        for text, ids in zip(spaced, encoded, strict=True):
            if list(ids[: len(opening)]) != opening:  # the text's first characters merge with what stands before it
                ids = [*opening, *self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]
            found.append(self._ended(list(ids[len(opening) :])))
        return found

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """The text up to the response, or None."""
        try:
            if self.role == "user":
                whole = str(self.tokenizer.apply_chat_template([*messages, {"role": "user", "content": _MARK}], tokenize=False))
                return whole.rpartition(_MARK)[0].rstrip(" ")
            return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)) + self.before
        except TemplateError:
            return None

    def _without_eos(self, ids: list[int]) -> list[int]:
        """Some tokenizers end every text with EOS; in the middle of a sequence it would be wrong."""
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id else ids

    def _ended(self, ids: list[int]) -> Ids:
        end = list(self.end)
        while end and ids[-len(end) :] == end:
            ids = ids[: -len(end)]
        return _ids(ids + end)


def plain_text(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose contents are texts; a language model reads nothing else.

    Raises:
        CallFailed: a part is no text.
    """
    return [{**message, "content": _text(message.get("content"))} for message in messages]


def _text(content: Any) -> str:
    if isinstance(content, list | tuple):
        if any(not isinstance(part, Mapping) or "text" not in part for part in content):
            raise CallFailed("a message holds parts that are not text; models of kind transformers read text only")
        return "".join(str(part["text"]) for part in content)
    return str(content or "")


def _turns(*roles: str) -> list[dict[str, str]]:
    """Turns whose last one is the mark."""
    return [{"role": role, "content": _MARK if n == len(roles) - 1 else _HELLO} for n, role in enumerate(roles)]


def _around(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> tuple[str, str, str]:
    """What the template writes before the last turn's text, for the same turns with a generation prompt, and after that text."""
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        prompt = str(tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        raise PrefdataError(
            f"the chat template of {tokenizer.name_or_path!r} fails on a plain exchange ({error}); mend it, or give prompts as "
            "plain strings."
        ) from None
    if _MARK not in text:
        whose = "assistant" if turns[-1]["role"] == "assistant" else "user"
        raise PrefdataError(
            f"the chat template of {tokenizer.name_or_path!r} leaves the {whose}'s text out; mend it, or give prompts as plain strings."
        )
    before, _, after = text.rpartition(_MARK)
    return before, prompt, after


def _tail(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """`text` from its last special token on; all of it where there is none."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return text[max((text.rfind(token) for token in special if token in text), default=0) :]


def _spaces(text: str) -> str:
    return text[len(text.rstrip(" ")) :]


def _marks_starts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the first word of a text is encoded otherwise than one behind a line break."""
    first, after = (list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in ("a", "\na"))
    return first[-1:] != after[-1:] or len(first) > 1


def _ids(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, dtype=np.int32)
