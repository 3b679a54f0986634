"""Reward models: sequence classifiers with one output, read at the last token of the whole conversation.

Responses of one prompt share its computation as in `packing.py`. The score is read at the response's own last token, found by
position: a classifier that looks for its padding token instead errs where a text ends with that very token.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from prefdata.core.errors import PrefdataError, Stopped
from prefdata.core.protocols import Messages
from prefdata.models.fingerprint import locate
from prefdata.models.packing import Batch, Ids, by_tokens, collate, fit, longest, width
from prefdata.models.packing_engine import BATCH_TOKENS, Group, refusal
from prefdata.models.packing_model import Body, body_of, can_share_prefix, load_tokenizer, load_weights, pick_device, quiet, window_of
from prefdata.models.packing_queue import Gathered
from prefdata.models.packing_tokens import Encoder, plain_text
from prefdata.models.protocol import CallFailed
from prefdata.models.spec import Spec


@dataclass(frozen=True, eq=False)
class _Row:
    groups: tuple[tuple[int, int], ...]
    """Who asked for how many of the responses, in order: callers with the same prompt share a row."""
    prompt: Ids
    responses: tuple[Ids, ...]
    kinds: tuple[Ids, ...] = ()
    """Which of two texts a token is of, where the tokenizer says."""


class LocalReward:
    """A transformers reward model behind a queue; it is loaded when it is first needed."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._loaded: Engine | None = None
        self._lock = threading.Lock()
        self._gathered: Gathered[Group, list[float]] = Gathered(spec.name, self.compute)

    async def scores(self, messages: Messages, texts: Sequence[str]) -> list[float]:
        """One scalar per text, as the answer to `messages`; higher is better, in the model's own scale.

        Raises:
            CallFailed: the template refuses the conversation, a text is too long, or a score is no finite number.
        """
        return await self._gathered((messages, list(texts))) if texts else []

    def compute(self, groups: Sequence[Group]) -> Iterator[tuple[int, list[float] | Exception]]:
        """Scores of each group, as groups are finished."""
        with self._lock:
            if self._loaded is None:
                try:
                    self._loaded = Engine(self._spec)
                except PrefdataError as error:
                    raise Stopped(f"stopped: model {self._spec.name!r} cannot be used: {error}") from None
            yield from self._loaded.score(groups)

    async def close(self) -> None:
        """End the thread."""
        await self._gathered.close()


class Engine:
    """A loaded reward model; not for two threads at once."""

    def __init__(self, spec: Spec) -> None:
        folder = locate(spec.model, spec.revision)
        device = pick_device(str(spec.options.get("device") or "auto"))
        self.tokenizer = load_tokenizer(folder)
        model, _ = load_weights(folder, "reward", str(spec.options.get("dtype", "float32")), self.tokenizer)
        if model.config.num_labels != 1:
            raise PrefdataError(
                f"the model folder {str(folder)!r} gives {model.config.num_labels} numbers for a text; a reward model gives one."
            )
        with quiet():
            model.to(device).eval()
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.most: int | None = min(filter(None, (spec.options.get("max_length"), context)), default=None)
        self.truncation = str(spec.options.get("truncation", "refuse"))
        self.budget = int(spec.options.get("batch_tokens") or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"]))
        self.body = Body(model, body_of(model), self.tokenizer, window_of(model), model.dtype, device)
        # A decoder's head reads one state; an encoder's classifier has layers of its own and reads in both directions.
        self.decoder = isinstance(getattr(model, "score", None), nn.Linear)
        self.shares = self.decoder and can_share_prefix(self.body)
        self.encoder = Encoder.make(self.tokenizer, chat=bool(self.tokenizer.chat_template), whole_turn=True)

    @torch.inference_mode()
    def score(self, groups: Sequence[Group]) -> Iterator[tuple[int, list[float] | Exception]]:
        """Scores of each group, or why it has none."""
        rows: list[_Row] = []
        for number, group in enumerate(groups):
            try:
                rows.append(self._row(number, *group))
            except PrefdataError as error:
                yield number, error
        rows = list(_merged(rows, self.budget)) if self.shares else rows
        reach = self.body.window or math.inf
        for together in (True, False):
            some = [row for row in rows if together == (self.shares and len(row.responses) > 1 and longest(row) <= reach)]
            for batch in by_tokens(some, together, self.budget):
                yield from self._batch([some[i] for i in batch], together)

    def _row(self, number: int, messages: Messages, texts: Sequence[str]) -> _Row:
        turns = plain_text(messages)
        plain = "\n\n".join(turn["content"] for turn in turns)
        if not self.decoder:
            return self._two_texts(number, plain, texts)
        (prompt,) = self.encoder.prompts([turns if self.encoder.chat else plain])
        if prompt is None:
            raise refusal("template")
        responses = tuple(self.encoder.responses(texts))
        if not len(prompt) or not all(map(len, responses)):
            raise refusal("empty")
        fitting = fit(prompt, responses, self.most, self.truncation, self.tokenizer.bos_token_id)
        if isinstance(fitting, str):
            raise refusal(fitting, length=len(prompt) + max(map(len, responses)), prompt=len(prompt), most=self.most)
        return _Row(((number, len(texts)),), *fitting)

    def _two_texts(self, number: int, prompt: str, texts: Sequence[str]) -> _Row:
        """For encoders such as DeBERTa: prompt and response as the tokenizer's first and second text, special tokens by its rule."""
        most = min(filter(None, (self.most, self.tokenizer.model_max_length)))
        found = [self.tokenizer(prompt, text, verbose=False) for text in texts]
        length = max(len(one["input_ids"]) for one in found)
        if length > most:
            if self.truncation == "refuse":
                raise refusal("too_long", length=length, most=most)
            self.tokenizer.truncation_side, part = ("right", "only_second") if self.truncation == "keep_start" else ("left", "only_first")
            found = [self.tokenizer(prompt, text, truncation=part, max_length=most) for text in texts]
            if max(len(one["input_ids"]) for one in found) > most:
                raise refusal("prompt_fills" if part == "only_second" else "response_fills", prompt=length, most=most)
        ids = tuple(np.asarray(one["input_ids"], dtype=np.int32) for one in found)
        kinds = tuple(np.asarray(one["token_type_ids"], dtype=np.int32) for one in found) if "token_type_ids" in found[0] else ()
        return _Row(((number, len(texts)),), np.empty(0, dtype=np.int32), ids, kinds)

    def _batch(self, rows: list[_Row], shared: bool) -> Iterator[tuple[int, list[float] | Exception]]:
        batch = collate(rows, shared).to(self.body.device)
        with self.body.precision():
            if self.decoder:
                hidden = self.body.hidden(batch.input_ids, batch.position_ids, batch.mask)
                values = self.body.model.score(hidden[batch.last])
            else:
                values = self._classified(batch)
        scores = values.float().flatten().tolist()
        start = 0
        for number, count in (group for row in rows for group in row.groups):
            mine = scores[start : start + count]
            start += count
            finite = all(map(math.isfinite, mine))
            yield number, mine if finite else CallFailed("the reward model gives a score that is no finite number.")

    def _classified(self, batch: Batch[_Row]) -> Tensor:
        """Scores by the model's own classifier; padding is masked out."""
        seen = torch.arange(batch.input_ids.shape[1], device=self.body.device)[None] < batch.lengths[:, None]
        pad = self.tokenizer.pad_token_id
        given = {"input_ids": batch.input_ids if pad is None else batch.input_ids.masked_fill(~seen, pad), "attention_mask": seen.long()}
        kinds = [one for row in batch.rows for one in row.kinds]
        if kinds:
            given["token_type_ids"] = pad_sequence([torch.from_numpy(one).long() for one in kinds], batch_first=True).to(self.body.device)
        scores: Tensor = self.body.model(**given).logits
        return scores


def _merged(rows: Sequence[_Row], most: int) -> Iterator[_Row]:
    """Rows with the same prompt as one, as long as it has at most `most` tokens."""
    open_rows: dict[bytes, _Row] = {}
    for row in rows:
        key = row.prompt.tobytes()
        so_far = open_rows.get(key)
        if so_far is None:
            open_rows[key] = row
            continue
        both = _Row((*so_far.groups, *row.groups), row.prompt, (*so_far.responses, *row.responses))
        if width(both) <= most:
            open_rows[key] = both
        else:
            yield so_far
            open_rows[key] = row
    yield from open_rows.values()
