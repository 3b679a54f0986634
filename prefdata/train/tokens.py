"""From text to token ids, with the boundary between prompt and response exact.

Prompt and response are encoded apart and set side by side, so the prompt's tokens are always a true prefix, and a pair's
two responses share it. What ends a response is appended as ids, exactly once, even where the text already ended with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from prefdata.core.errors import PrefdataError

Ids = npt.NDArray[np.int32]
_MARK = "qzresponsezq"
"""Stands for the assistant's text when the template is asked what it writes after it."""


@dataclass(frozen=True)
class Encoder:
    """Encodes the prompts and responses of one export for one tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    chat: bool
    end: tuple[int, ...]
    """What ends a response."""

    @classmethod
    def make(cls, tokenizer: PreTrainedTokenizerBase, *, chat: bool, whole_turn: bool) -> Encoder:
        """Find out how a response ends.

        Args:
            tokenizer: the model's.
            chat: prompts are conversations, to be written by the chat template.
            whole_turn: keep all that the template writes after a reply (a newline, say), as scorers do that render
                the whole conversation; else stop at the end-of-turn token, as a generating model does.
        """
        eos = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        if not chat:
            return cls(tokenizer, False, eos)
        if not tokenizer.chat_template:
            raise PrefdataError(
                f"the prompts are conversations and the model {tokenizer.name_or_path!r} has no chat template; train a chat "
                "model, put a chat_template into its tokenizer, or export prompts as plain strings."
            )
        tail = _after_reply(tokenizer)
        ids = [int(i) for i in tokenizer(tail, add_special_tokens=False)["input_ids"]] if tail else []
        if whole_turn:
            return cls(tokenizer, True, tuple(ids))
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        stop = next((n for n, i in enumerate(ids) if i in special), None)
        return cls(tokenizer, True, eos if stop is None else tuple(ids[: stop + 1]))

    def prompts(self, prompts: Sequence[Any]) -> list[Ids | None]:
        """Ids of each prompt; None where the chat template refuses it."""
        if not self.chat:
            encoded = self.tokenizer(list(prompts))["input_ids"] if prompts else []
            return [_ids(self._without_eos(ids)) for ids in encoded]
        texts = [self._render(messages) for messages in prompts]
        good = [t for t in texts if t is not None]
        encoded = iter(self.tokenizer(good, add_special_tokens=False)["input_ids"] if good else [])
        return [None if t is None else _ids(next(encoded)) for t in texts]

    def responses(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each response with its end."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return [self._ended(list(ids)) for ids in encoded]

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
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


def _after_reply(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes after the assistant's text."""
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": _MARK}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateError as error:
        raise PrefdataError(
            f"the chat template of {tokenizer.name_or_path!r} fails on a plain exchange ({error}); mend it, or export prompts "
            "as plain strings."
        ) from None
    if _MARK not in text:
        raise PrefdataError(
            f"the chat template of {tokenizer.name_or_path!r} leaves the assistant's text out; mend it, or export prompts as plain strings."
        )
    return text.rpartition(_MARK)[2]


def _ids(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, dtype=np.int32)
