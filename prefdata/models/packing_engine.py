"""One pass over given texts: tokens, rows, batches, and what the model says about each text.

Responses of one prompt stand behind it in one row (`packing.py`), whoever asked for them; equal texts are computed once;
rows are batched by tokens. What comes out equals separate passes (1e-4 in float32).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prefdata.core.errors import PrefdataError
from prefdata.core.protocols import Logps, Messages
from prefdata.models.fingerprint import locate
from prefdata.models.packing import Ids, by_tokens, collate, fit, longest, width
from prefdata.models.packing_logps import segment_sums
from prefdata.models.packing_model import (
    Body,
    body_of,
    can_share_prefix,
    find_head,
    load_tokenizer,
    load_weights,
    pick_device,
    quiet,
    window_of,
)
from prefdata.models.packing_queue import failed
from prefdata.models.packing_tokens import Encoder, plain_text
from prefdata.models.protocol import CallFailed
from prefdata.models.spec import Spec

Group = tuple[Messages, Sequence[str]]
"""A conversation and texts that may be its next turn."""
BATCH_TOKENS = {"cpu": 4_096, "cuda": 32_768}
"""Tokens computed at once, padding counted, where a recipe does not say."""
Floats = npt.NDArray[np.float64]
_WHY = {
    "template": "the chat template refuses this conversation",
    "empty": "there is no token to score",
    "no_prompt": "the prompt has no token",
    "too_long": "prompt plus response have {length} tokens and the limit is {most}; truncation: keep_start (or keep_end) cuts them",
    "prompt_fills": "the prompt alone has {prompt} tokens and fills the limit of {most}",
    "response_fills": "a response alone fills the limit of {most} tokens",
    "no_number": "the model gives a log-probability that is no finite number",
}  # fmt: skip


@dataclass(frozen=True)
class Scored(Logps):
    """What one pass says about one response.

    Attributes:
        eos: whether the end of the turn is among the tokens.
        cut: whether truncation took tokens from the prompt or the response.
        entropy: mean over the tokens of the entropy of the model's distribution, nats.
        rows: how many hidden states `total_state` sums.
        total_state: sum of the last layer's states (after the final norm) from the prompt's last token to the one before
            the end of the turn, (h,); None where states were not asked for.
        last_state: the last of those states, (h,).
    """

    eos: bool
    cut: bool
    entropy: float
    rows: int = 0
    total_state: Floats | None = field(default=None, repr=False, compare=False)
    last_state: Floats | None = field(default=None, repr=False, compare=False)


@dataclass(eq=False)
class _Text:
    """A response that is waiting for its numbers, for one or several askers."""

    ids: Ids
    ended: bool
    askers: list[tuple[int, int, bool]] = field(default_factory=list)
    """Number of the group, number in it, and whether it was cut."""


@dataclass(frozen=True, eq=False)
class _Row:
    prompt: Ids
    texts: tuple[_Text, ...]

    @property
    def responses(self) -> tuple[Ids, ...]:
        return tuple(text.ids for text in self.texts)


class Engine:
    """A loaded model that computes; not for two threads at once."""

    def __init__(self, spec: Spec) -> None:
        folder = locate(spec.model, spec.revision)
        device = pick_device(str(spec.options.get("device") or "auto"))
        tokenizer = load_tokenizer(folder)
        model, _ = load_weights(folder, "policy", str(spec.options.get("dtype", "float32")), tokenizer)
        with quiet():
            model.to(device).eval()
        self.body = Body(model, body_of(model), tokenizer, window_of(model), model.dtype, device)
        self.head = find_head(self.body)
        self.shares = can_share_prefix(self.body)
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.most: int | None = min(filter(None, (spec.options.get("max_length"), context)), default=None)
        self.truncation = str(spec.options.get("truncation", "refuse"))
        self.budget = int(spec.options.get("batch_tokens") or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"]))
        self._encoders: dict[str, Encoder] = {}
        self.batches: list[int] = []
        """Tokens computed in each batch so far, padding not counted."""

    def score(
        self, groups: Sequence[Group], counts: Counter[str], *, states: bool = False
    ) -> Iterator[tuple[int, list[Scored | PrefdataError]]]:
        """Results of each group, as groups are finished."""
        results: list[list[Scored | PrefdataError | None]] = [[None] * len(texts) for _, texts in groups]
        left = [len(texts) for _, texts in groups]
        yield from ((number, []) for number, waiting in enumerate(left) if not waiting)
        for found in self._computed(groups, states):
            for group, text, result in found:
                results[group][text] = result
                left[group] -= 1
                counts["refused" if isinstance(result, PrefdataError) else "scored"] += 1
                counts["cut"] += isinstance(result, Scored) and result.cut
                if not left[group]:
                    yield group, [one for one in results[group] if one is not None]

    def _computed(self, groups: Sequence[Group], states: bool) -> Iterator[list[tuple[int, int, Scored | PrefdataError]]]:
        rows: list[_Row] = []
        refused: list[tuple[int, int, Scored | PrefdataError]] = []
        for prompt, texts in self._encoded(groups, refused):
            rows += self._split(prompt, texts)
        yield refused
        reach = self.body.window or math.inf
        for together in (True, False):
            some = [row for row in rows if together == (self.shares and len(row.texts) > 1 and longest(row) <= reach)]
            for batch in by_tokens(some, together, self.budget):
                yield from self._tried([some[i] for i in batch], together, states)

    def _encoded(self, groups: Sequence[Group], refused: list[tuple[int, int, Scored | PrefdataError]]) -> list[tuple[Ids, list[_Text]]]:
        """Each distinct prompt with its distinct responses; what cannot be scored is added to `refused`."""
        found: dict[bytes, tuple[Ids, dict[tuple[bytes, bool], _Text]]] = {}
        for number, (messages, texts) in enumerate(groups):
            try:
                encoder, prompt, responses = self._tokens(messages, texts)
            except PrefdataError as error:
                refused += [(number, place, error) for place in range(len(texts))]
                continue
            for place, (whole, fitting) in enumerate(zip(responses, self._fitting(prompt, responses), strict=True)):
                if isinstance(fitting, PrefdataError):
                    refused.append((number, place, fitting))
                    continue
                before, ids = fitting
                ended = bool(encoder.end) and len(ids) == len(whole)
                _, distinct = found.setdefault(before.tobytes(), (before, {}))
                text = distinct.setdefault((ids.tobytes(), ended), _Text(ids, ended))
                text.askers.append((number, place, len(ids) < len(whole) or len(before) < len(prompt)))
        return [(prompt, list(distinct.values())) for prompt, distinct in found.values()]

    def _tokens(self, messages: Messages, texts: Sequence[str]) -> tuple[Encoder, Ids, tuple[Ids, ...]]:
        turns = plain_text(messages)
        encoder = self._encoder("user" if turns and turns[-1].get("role") == "assistant" else "assistant")
        (prompt,) = encoder.prompts([turns if encoder.chat else "\n\n".join(turn["content"] for turn in turns)])
        if prompt is None:
            raise refusal("template")
        if not len(prompt):
            raise refusal("no_prompt")
        return encoder, prompt, tuple(encoder.responses(texts))

    def _fitting(self, prompt: Ids, responses: tuple[Ids, ...]) -> list[tuple[Ids, Ids] | CallFailed]:
        """Prompt and response of each text within the limit; one that cannot be fitted does not hinder the others."""

        def fitted(*some: Ids) -> tuple[Ids, tuple[Ids, ...]] | str:
            return fit(prompt, some, self.most, self.truncation, self.body.tokenizer.bos_token_id)

        def fault(response: Ids) -> CallFailed | None:
            why = "empty" if not len(response) else fitted(response)
            facts = {"length": len(prompt) + len(response), "prompt": len(prompt), "most": self.most}
            return refusal(why, **facts) if isinstance(why, str) else None

        faults = [fault(response) for response in responses]
        good = [response for response, problem in zip(responses, faults, strict=True) if problem is None]
        together = fitted(*good) if good else ""
        if isinstance(together, str):
            return [problem for problem in faults if problem is not None]
        fitting = iter(together[1])
        return [problem or (together[0], next(fitting)) for problem in faults]

    def _encoder(self, role: str) -> Encoder:
        if role not in self._encoders:
            chat = bool(self.body.tokenizer.chat_template)
            self._encoders[role] = Encoder.make(self.body.tokenizer, chat=chat, whole_turn=False, role=role)
        return self._encoders[role]

    def _split(self, prompt: Ids, texts: list[_Text]) -> Iterator[_Row]:
        """Rows of at most a batch's tokens; like lengths together, so that copies of the prompt waste little padding."""
        texts = sorted(texts, key=lambda text: -len(text.ids))
        part: list[_Text] = []
        for text in texts:
            if part and (not self.shares or width(_Row(prompt, (*part, text))) > self.budget):
                yield _Row(prompt, tuple(part))
                part = []
            part.append(text)
        if part:
            yield _Row(prompt, tuple(part))

    def _tried(self, rows: list[_Row], shared: bool, states: bool) -> Iterator[list[tuple[int, int, Scored | PrefdataError]]]:
        """One batch; what does not fit in memory is halved, and fails where a single row does not fit."""
        try:
            yield self._batch(rows, shared, states)
            return
        except torch.OutOfMemoryError as error:
            problem = error
        if self.body.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(rows) > 1:
            for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                yield from self._tried(half, shared, states)
        else:
            yield [(group, place, failed(problem)) for text in rows[0].texts for group, place, _ in text.askers]

    @torch.inference_mode()
    def _batch(self, rows: list[_Row], shared: bool, states: bool) -> list[tuple[int, int, Scored | PrefdataError]]:
        batch = collate(rows, shared).to(self.body.device)
        with self.body.precision():
            hidden = self.body.hidden(batch.input_ids, batch.position_ids, batch.mask)
            logps, entropy = self.head.logps_and_entropy(hidden[batch.predict], batch.targets)
        self.batches.append(batch.tokens)
        wide = torch.float32 if self.body.device.type == "mps" else torch.float64
        sums = segment_sums(logps.to(wide), batch.lengths).tolist()
        means = (segment_sums(entropy.to(wide), batch.lengths) / batch.lengths).tolist()
        texts = [text for row in rows for text in row.texts]
        vectors = _states(hidden, batch.predict, batch.last, batch.lengths.tolist(), texts, wide) if states else [None] * len(texts)
        out: list[tuple[int, int, Scored | PrefdataError]] = []
        for text, total, mean, vector in zip(texts, sums, means, vectors, strict=True):
            count = len(text.ids)
            for group, place, cut in text.askers:
                if not math.isfinite(total):
                    out.append((group, place, refusal("no_number")))
                    continue
                rows_summed = count + (not text.ended) if vector else 0
                out.append((group, place, Scored(total, count, text.ended, cut, mean, rows_summed, *(vector or (None, None)))))
        return out


def _states(
    hidden: Tensor, predict: Tensor, last: Tensor, lengths: Sequence[int], texts: Sequence[_Text], wide: torch.dtype
) -> list[tuple[Floats, Floats]]:
    """Sum and last of the states that CHES looks at, for each text.

    These are the states from the prompt's last token to the response's last word. The token that ends the turn is predicted by
    the last of them and has none of its own there; without it the last word's state is one more than the tokens predicted.
    """
    found = []
    for number, part in enumerate(torch.split(predict, list(lengths))):
        rows = part if texts[number].ended else torch.cat([part, last[number : number + 1]])
        states = hidden[rows].to(wide)
        found.append((states.sum(0).cpu().numpy().astype(np.float64), states[-1].cpu().numpy().astype(np.float64)))
    return found


def refusal(why: str, **facts: Any) -> CallFailed:
    """Why a text has no numbers, as the failure of its row."""
    return CallFailed(_WHY[why].format(**facts) + ".")
