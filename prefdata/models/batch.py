"""The Batch API of OpenAI-compatible servers: requests are collected into files, answered within a day, at half the price.

What was submitted outlives this process: beside the store stands one note per batch, `<store>.batch.<mark>`, with the ids
of its requests; it is written before the upload, and the batch carries its mark at the server. A run that was killed at any
moment finds its batches again and pays for none twice. One request that fails, or a batch that expires half done, takes
nothing else with it: answers that exist are used, and the rest is submitted again.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata.core.errors import Stopped
from prefdata.models.journal import Segment, claim
from prefdata.models.openai import OpenAI
from prefdata.models.protocol import CallFailed, Reply, Transient
from prefdata.models.request import Request
from prefdata.models.spec import Spec

log = logging.getLogger("prefdata.models")
POLL = 30.0
QUIET = 2.0
"""Seconds without a new request after which a batch is closed and submitted."""
MOST_REQUESTS, MOST_BYTES = 50_000, 150 << 20
FIRST_WAIT = 0.5
_TRIES = 8
_OVER = ("completed", "expired", "cancelled", "failed")
_FULL = "token limit"
"""Said where too many tokens wait in batches already; another try is made later."""
_FULL_WAIT = 60.0
_JSON = "application/json"


@dataclass(eq=False)
class _Batch:
    """What was or will be submitted together; the note is ours as long as its file is locked."""

    mark: str
    note: Segment
    ids: list[str]
    id: str | None = None
    waiting: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    over: bool = False
    owed: set[str] = field(default_factory=set)
    """Answered, and not asked for yet in this run."""

    def write(self, **line: Any) -> None:
        os.write(self.note.descriptor, json.dumps(line).encode() + b"\n")


class Batches:
    """A backend that answers through batches.

    Args:
        spec: what the recipe says about the model.
        store: the store's file; the notes about batches stand beside it.
        holds: whether the reply to a request is stored already.
    """

    def __init__(self, spec: Spec, store: Path, holds: Callable[[str], bool]) -> None:
        self._spec, self._store, self._holds = spec, store, holds
        self._wire = OpenAI(spec)
        self._poll = float(spec.options.get("poll", POLL))
        self._batches: list[_Batch] = []
        self._open: dict[str, _Batch] = {}
        self._kept: dict[str, tuple[_Batch, Reply | Exception]] = {}
        self._lines: dict[str, bytes] = {}
        self._futures: dict[str, asyncio.Future[Reply]] = {}
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._found: asyncio.Task[None] | None = None

    async def send(self, request: Request) -> Reply:
        """Take the answer of an earlier batch, join the one that holds this request already, or the next."""
        if self._found is None or (self._found.done() and self._found.exception()):
            self._found = asyncio.create_task(self._find())
        await asyncio.shield(self._found)
        if request.id in self._kept:
            batch, outcome = self._kept.pop(request.id)
            batch.owed.discard(request.id)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        open_batch = self._open.get(request.id)
        if open_batch is None:
            return await self._add(request)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        open_batch.waiting[request.id] = future
        if open_batch.task is None:
            open_batch.task = asyncio.create_task(self._follow(open_batch))
        return await future

    async def close(self) -> None:
        """Leave what is under way to the next run; forget batches that are over and whose answers were all handed out."""
        if self._timer:
            self._timer.cancel()
        for batch in self._batches:
            if batch.task:
                batch.task.cancel()
                await asyncio.gather(batch.task, return_exceptions=True)
            if batch.over and all(map(self._holds, batch.owed)):
                batch.note.remove()
            else:
                batch.note.leave()
        await self._wire.close()

    async def _add(self, request: Request) -> Reply:
        line = {"custom_id": request.id, "method": "POST", "url": "/v1/chat/completions", "body": self._wire.body(request)}
        content = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if self._lines and (self._size + len(content) > MOST_BYTES or len(self._lines) >= MOST_REQUESTS):
            self._submit()
        self._lines[request.id] = content
        self._size += len(content)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._futures[request.id] = future
        if self._timer:
            self._timer.cancel()
        self._timer = loop.call_later(QUIET, self._submit)
        return await future

    def _submit(self) -> None:
        lines, futures = self._lines, self._futures
        self._lines, self._futures, self._size = {}, {}, 0
        if not lines:
            return
        content = b"".join(lines.values())
        mark = hashlib.sha256(content + os.urandom(8)).hexdigest()[:24]
        note = claim(self._store.with_name(f"{self._store.name}.batch.{mark}"), create=True)
        assert note, "the mark is random"
        batch = _Batch(mark, note, list(lines), waiting=futures)
        self._batches.append(batch)
        self._open |= dict.fromkeys(lines, batch)
        batch.task = asyncio.create_task(self._run(batch, content))

    async def _run(self, batch: _Batch, content: bytes) -> None:
        try:
            batch.write(where=self._spec.base_url, mark=batch.mark, ids=batch.ids)
            uploaded = await self._call("POST", "/files", *_form(batch.mark, content))
            batch.id = await self._create(batch, uploaded["id"])
            batch.write(batch=batch.id)
        except Exception as error:  # everyone in the batch is told
            self._fail(batch, error)
            return
        log.info("batch %s with %d requests is submitted", batch.id, len(batch.ids))
        await self._follow(batch)

    async def _create(self, batch: _Batch, file: str) -> str:
        body = {
            "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"prefdata": batch.mark},
        }  # fmt: skip
        return str((await self._call("POST", "/batches", json.dumps(body).encode(), once=batch.mark))["id"])

    async def _follow(self, batch: _Batch) -> None:
        """Wait until the server is done with the batch, and hand out what it gave."""
        try:
            while (state := await self._call("GET", f"/batches/{batch.id}"))["status"] not in _OVER:
                await asyncio.sleep(self._poll)
            for name in ("output_file_id", "error_file_id"):
                if state.get(name):
                    self._hand_out(batch, await self._fetch("GET", f"/files/{state[name]}/content"))
            self._settle_rest(batch, state)
        except Exception as error:
            self._fail(batch, error)

    def _hand_out(self, batch: _Batch, content: bytes) -> None:
        for line in content.splitlines():
            try:
                data = json.loads(line)
                identity, response = str(data["custom_id"]), data.get("response") or {}
                status, body = int(response.get("status_code") or 500), response.get("body") or {"error": data.get("error")}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # whose answer this was cannot be told: it will be missing, and asked again
            outcome = self._outcome(status, json.dumps(body).encode())
            future = batch.waiting.get(identity)
            if future is not None:
                _settle(future, outcome)
            elif identity in self._open and not isinstance(outcome, Transient):
                self._kept[identity] = (batch, outcome)
                batch.owed.add(identity)

    def _outcome(self, status: int, raw: bytes) -> Reply | Exception:
        if status != 200:
            return self._wire.failure(status, self._wire.words(raw), None)
        try:
            return self._wire.reply(raw)
        except Exception as error:
            return error

    def _settle_rest(self, batch: _Batch, state: Mapping[str, Any]) -> None:
        """Requests without an answer: refused by line, or to be submitted again in another batch."""
        errors = [e for e in (state.get("errors") or {}).get("data") or [] if isinstance(e, dict)]
        by_line = {int(e["line"]): str(e.get("message")) for e in errors if e.get("line")}
        whole = " ".join(str(e.get("message") or e.get("code") or "") for e in errors)[:300]
        for number, identity in enumerate(batch.ids, 1):
            self._open.pop(identity, None)
            future = batch.waiting.get(identity)
            if future is None or future.done():
                continue
            if number in by_line:
                _settle(future, CallFailed(f"the batch was refused for this request: {by_line[number]}"))
            elif state["status"] == "failed" and not by_line and _FULL not in whole:
                _settle(future, Stopped(f"stopped, since the server refused batch {batch.id}: {whole or 'no reason given'}."))
            else:
                words = f"batch {batch.id} ended as {state['status']} without this answer {whole}".strip()
                _settle(future, Transient(words, after=_FULL_WAIT if _FULL in whole else None))
        batch.over = True

    def _fail(self, batch: _Batch, error: Exception) -> None:
        """Tell everyone; a batch that exists is followed again by whoever asks next."""
        batch.task, batch.over = None, batch.id is None
        for identity in batch.ids if batch.over else ():
            self._open.pop(identity, None)
        for future in batch.waiting.values():
            _settle(future, error)

    async def _find(self) -> None:
        """The batches of earlier runs, by the notes beside the store that no living process holds."""
        for path in sorted(self._store.parent.glob(f"{glob.escape(self._store.name)}.batch.*")):
            note = claim(path, create=False)
            if note is None:
                continue
            batch = _read(note)
            if batch is None or batch[1] != self._spec.base_url:
                note.leave()
                continue
            found = batch[0]
            missing = not all(map(self._holds, found.ids))
            if missing and found.id is None:  # killed between asking and noting: was it made?
                try:
                    found.id = await self._marked(found.mark)
                except BaseException:
                    note.leave()
                    raise
            if not missing or found.id is None:
                note.remove()
                continue
            self._batches.append(found)
            self._open |= dict.fromkeys(found.ids, found)

    async def _marked(self, mark: str) -> str | None:
        """The id of the batch with this mark, if the server has one."""
        after = ""
        while True:
            page = await self._call("GET", f"/batches?limit=100{after}")
            for entry in page.get("data", []):
                if (entry.get("metadata") or {}).get("prefdata") == mark:
                    return str(entry["id"])
            if not page.get("has_more") or not page.get("data"):
                return None
            after = f"&after={page['data'][-1]['id']}"

    async def _call(self, method: str, path: str, data: bytes | None = None, kind: str = _JSON, once: str = "") -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(await self._fetch(method, path, data, kind, once))
        except ValueError:
            raise Transient(f"{path} was answered with what is not JSON", busy=False) from None
        return found

    async def _fetch(self, method: str, path: str, data: bytes | None = None, kind: str = _JSON, once: str = "") -> bytes:
        """An exchange with retries; with `once`, a batch with that mark is looked for before another is made."""
        attempt = 0
        while True:
            try:
                status, _, raw = await self._wire.fetch(method, path, data, kind)
                if 200 <= status < 300:
                    return raw
                raise self._wire.failure(status, self._wire.words(raw), None)
            except Transient:
                attempt += 1
                if attempt == _TRIES:
                    raise
            await asyncio.sleep(FIRST_WAIT * 2**attempt)
            if once and (made := await self._marked(once)):
                return json.dumps({"id": made}).encode()


def _read(note: Segment) -> tuple[_Batch, str] | None:
    """A note as a batch, and where it was submitted; the second line is missing where the batch was not made."""
    lines = []
    for line in note.path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            lines.append(json.loads(line))
    try:
        made = str(lines[1]["batch"]) if len(lines) > 1 else None
        return _Batch(str(lines[0]["mark"]), note, list(lines[0]["ids"]), made), str(lines[0]["where"])
    except (IndexError, KeyError, TypeError):
        return None


def _settle(future: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _form(mark: str, content: bytes) -> tuple[bytes, str]:
    """A multipart form with the file, as /files takes it, and its content type."""
    edge = f"prefdata-{mark}"
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{mark}.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    )
    return head.encode() + content + f"\r\n--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"
