"""Transformers models in this process: requests that arrive together are answered in one batch.

Every request draws its own random numbers, seeded by its identity, and picks each token by them from its own
distribution: what else is in the batch does not matter (up to rounding, which in float32 is too small to be met, and in
bfloat16 is not).
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from prefdata.core.errors import BadValue, PrefdataError, Stopped
from prefdata.models.fingerprint import locate
from prefdata.models.packing_model import quiet
from prefdata.models.protocol import CallFailed, Reply
from prefdata.models.request import Request
from prefdata.models.spec import Spec

BATCH = 16
MAX_TOKENS = 512
"""The longest answer where neither recipe nor method sets max_tokens."""
KNOWN = {"temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed", "logprobs", "top_logprobs"}
WISHES = {"response_format", "reasoning_effort"}
"""Passed over: they ask for a form that the tolerant reading of replies does not depend on."""
_GATHER = 0.004
"""Seconds to wait for company after the first request of a batch."""
_TAIL = 16
"""Tokens decoded to look for a stop text, beyond one for each of its characters."""


@dataclass(eq=False)
class _Job:
    request: Request
    future: asyncio.Future[Reply]
    loop: asyncio.AbstractEventLoop
    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    most: int = 0
    finish: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.request.seed)
        given = self.request.sampling
        self.temperature = float(given.get("temperature", 1.0))
        self.top_p, self.top_k, self.min_p = float(given.get("top_p", 1.0)), int(given.get("top_k", 0)), float(given.get("min_p", 0.0))
        stop = given.get("stop") or []
        self.stops: list[str] = [stop] if isinstance(stop, str) else list(stop)
        self.top = int(given.get("top_logprobs") or 0) if given.get("logprobs") else -1

    def settle(self, reply: Reply | None, error: Exception | None = None) -> None:
        """Hand over, from the model's thread to the caller's loop."""

        def hand_over() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            elif reply is not None:
                self.future.set_result(reply)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(hand_over)


class Local:
    """A causal language model behind a queue; one thread loads it at the first request and runs it."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._batch = int(spec.options.get("batch_size", BATCH))
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.batches: list[int] = []
        """Sizes of the batches so far."""

    async def send(self, request: Request) -> Reply:
        """Wait for this request's part of a batch."""
        for name in request.sampling:
            if name not in KNOWN | WISHES:
                raise BadValue(
                    f"model {self._spec.name!r}: {name}", request.sampling[name], f"for kind transformers only {', '.join(sorted(KNOWN))}"
                )
        loop = asyncio.get_running_loop()
        job = _Job(request, loop.create_future(), loop)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"model-{self._spec.name}", daemon=True)
            self._thread.start()
        self._queue.put(job)
        return await job.future

    async def close(self) -> None:
        """End the thread; a batch that still runs is given up."""
        self._closing.set()
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        waiting: list[_Job] = []
        model: Model | None = None
        while True:
            if not waiting:
                job = self._queue.get()
                if job is None:
                    return
                waiting.append(job)
                time.sleep(_GATHER)
            while not self._queue.empty():
                job = self._queue.get()
                if job is None:
                    return
                waiting.append(job)
            try:
                model = model or Model(self._spec)
            except Exception as error:  # no request can succeed
                for job in waiting:
                    job.settle(None, Stopped(f"stopped: {error}"))
                waiting = []
                continue
            waiting = [job for job in waiting if not job.future.done() and self._prepared(model, job)]
            batch = _alike(waiting, self._batch)
            if batch:
                waiting = [job for job in waiting if job not in batch]
                self.batches.append(len(batch))
                self._answer(model, batch)

    def _prepared(self, model: Model, job: _Job) -> bool:
        try:
            if not job.prompt:
                model.prepare(job)
        except Exception as error:  # a template refuses by whatever its author raised
            job.settle(None, error if isinstance(error, PrefdataError) else CallFailed(f"{type(error).__name__}: {error}"))
            return False
        return True

    def _answer(self, model: Model, batch: list[_Job]) -> None:
        try:
            model.generate(batch, self._closing)
        except Exception as error:  # out of memory, a model that fails: these requests, not the run
            for job in batch:
                job.settle(None, CallFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
            return
        for job in batch:
            if job.finish is not None:
                job.settle(model.reply(job, self._spec))


class Model:
    """A loaded model with its tokenizer."""

    def __init__(self, spec: Spec) -> None:
        folder = locate(spec.model, spec.revision)
        self.device = str(spec.options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = str(spec.options.get("dtype", "float32"))
        try:
            with quiet():
                self.tokenizer = AutoTokenizer.from_pretrained(folder)
                self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(self.device).eval()
        except Exception as error:  # every library below has errors of its own
            words = " ".join(str(error).split())[:300]
            raise PrefdataError(f"model {spec.name!r} cannot be loaded from {str(folder)!r}: {words}") from error
        ends = self.model.generation_config.eos_token_id
        self.ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id} - {None}
        self.longest = int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)
        self.pad = self.tokenizer.pad_token_id or 0
        self._takes = set(inspect.signature(self.model.forward).parameters)

    def prepare(self, job: _Job) -> None:
        """The prompt's tokens, by the chat template (or, without one, the messages' texts)."""
        messages = [{**message, "content": _text(message.get("content"))} for message in job.request.messages]
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            job.prompt = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        else:
            job.prompt = self.tokenizer("\n\n".join(m["content"] for m in messages), verbose=False)["input_ids"]
        given = job.request.sampling
        wanted = int(given.get("max_completion_tokens") or given.get("max_tokens") or MAX_TOKENS)
        job.most = min(wanted, self.longest - len(job.prompt))
        if job.most < 1 or not job.prompt:
            raise CallFailed(
                f"the prompt has {len(job.prompt)} tokens; this model takes from 1 to {self.longest - 1}, with room for an answer"
            )

    @torch.inference_mode()
    def generate(self, jobs: Sequence[_Job], given_up: threading.Event) -> None:
        """Fill in tokens and finish of every job; those that are done leave the batch at once."""
        width = max(len(job.prompt) for job in jobs)
        ids = torch.tensor([[self.pad] * (width - len(job.prompt)) + job.prompt for job in jobs], device=self.device)
        mask = torch.tensor([[0] * (width - len(job.prompt)) + [1] * len(job.prompt) for job in jobs], device=self.device)
        cache, live = DynamicCache(config=self.model.config), list(jobs)
        while not given_up.is_set():
            logits = self._forward(ids, mask, cache)
            chosen = _choose(logits, live)
            self._append(live, chosen, logits)
            keep = [row for row, job in enumerate(live) if job.finish is None]
            if not keep:
                return
            if len(keep) < len(live):
                rows = torch.tensor(keep, device=self.device)
                cache.batch_select_indices(rows)
                mask, chosen = mask[rows], chosen[rows]
                live = [live[row] for row in keep]
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)

    def reply(self, job: _Job, spec: Spec) -> Reply:
        answer = job.tokens[:-1] if job.tokens[-1] in self.ends else job.tokens
        text = job.text if job.text is not None else self._decode(answer)
        return Reply(
            text=text,
            model=spec.model,
            finish=job.finish,
            tokens_in=len(job.prompt),
            tokens_out=len(job.tokens),
            logprobs={"content": job.logprobs} if job.top >= 0 else None,
        )

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Logits of the next token, (rows, vocabulary)."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        given = {"position_ids": positions, "logits_to_keep": 1}
        extra = {name: value for name, value in given.items() if name in self._takes}
        out = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def _append(self, live: Sequence[_Job], chosen: torch.Tensor, logits: torch.Tensor) -> None:
        logged = torch.log_softmax(logits, dim=-1) if any(job.top >= 0 for job in live) else None
        for row, (job, token) in enumerate(zip(live, chosen.tolist(), strict=True)):
            job.tokens.append(token)
            if logged is not None and job.top >= 0:
                job.logprobs.append(self._logprobs(logged[row], token, job.top))
            if token in self.ends or (job.stops and self._stopped(job)):
                job.finish = "stop"
            elif len(job.tokens) >= job.most:
                job.finish = "length"

    def _stopped(self, job: _Job) -> bool:
        """Whether a stop text has come up; the answer ends before it."""
        tail = self._decode(job.tokens[-(_TAIL + max(map(len, job.stops))) :])
        if not any(stop in tail for stop in job.stops):
            return False
        text = self._decode(job.tokens)
        at = min((found for stop in job.stops if (found := text.find(stop)) >= 0), default=-1)
        if at >= 0:
            job.text = text[:at]
        return at >= 0

    def _logprobs(self, logged: torch.Tensor, token: int, top: int) -> dict[str, Any]:
        values, indices = logged.topk(min(top, logged.shape[-1])) if top else (logged.new_empty(0), logged.new_empty(0))
        listed = [self._entry(int(i), float(v)) for i, v in zip(indices.tolist(), values.tolist(), strict=True)]
        return {**self._entry(token, float(logged[token])), "top_logprobs": listed}

    def _entry(self, token: int, value: float) -> dict[str, Any]:
        return {"token": self.tokenizer.decode([token]), "logprob": max(value, -9999.0)}

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _alike(waiting: list[_Job], most: int) -> list[_Job]:
    """The oldest request and those nearest to it in length."""
    if not waiting:
        return []
    length = len(waiting[0].prompt)
    return sorted(waiting, key=lambda job: (job is not waiting[0], abs(len(job.prompt) - length)))[:most]


def _choose(logits: torch.Tensor, jobs: Sequence[_Job]) -> torch.Tensor:
    """One token per row: the likeliest at temperature 0, else by the row's own random number."""
    best = logits.argmax(-1)
    if all(job.temperature == 0 for job in jobs):
        return best

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits.device, dtype=torch.float64)[:, None]

    temperature = column([job.temperature or 1.0 for job in jobs])
    weights = torch.softmax(logits.double() / temperature, dim=-1)
    if any(job.top_p < 1 or job.top_k or job.min_p for job in jobs):
        ordered, places = weights.sort(dim=-1, descending=True, stable=True)
        rank = torch.arange(logits.shape[-1], device=logits.device)[None]
        kept = ordered.cumsum(-1) - ordered < column([job.top_p for job in jobs])
        kept &= rank < column([float(job.top_k or logits.shape[-1]) for job in jobs])
        kept &= ordered >= column([job.min_p for job in jobs]) * ordered[:, :1]
        weights = weights * torch.zeros_like(weights).scatter(-1, places, (kept | (rank == 0)).double())
    total = weights.cumsum(-1)
    drawn = column([job.random.random() for job in jobs]) * total[:, -1:]
    sampled = torch.searchsorted(total, drawn, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]
    greedy = torch.tensor([job.temperature == 0 for job in jobs], device=logits.device)
    return torch.where(greedy, best, sampled)


def _text(content: Any) -> str:
    """The text of a message; a causal language model reads nothing else."""
    if isinstance(content, list):
        if any(not isinstance(part, Mapping) or "text" not in part for part in content):
            raise CallFailed("a message holds parts that are not text; models of kind transformers read text only")
        return "".join(str(part["text"]) for part in content)
    return str(content or "")
