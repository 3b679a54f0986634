"""Any OpenAI-compatible endpoint, over plain aiohttp: one attempt per call; the caller retries.

The openai package costs four times the processor time per call; a chat completion is one POST, and this is it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from prefdata.core.errors import Stopped
from prefdata.models.protocol import CallFailed, Reply, Transient
from prefdata.models.request import Request
from prefdata.models.spec import Spec

TIMEOUT = 300.0
LONGEST_AFTER = 600.0
"""A server that asks to wait longer than this many seconds stops the run."""
_CONNECT = 20.0
_WORDS = 500
_JSON = "application/json"
_BUSY = {408, 429}
_TRANSIENT = {408, 409, 425, 429}
_HOPELESS = {401: "refuses the key", 402: "wants payment", 404: "does not know this address or model"}
_KEYS = re.compile(r"\b(sk|hf|gsk|xai|pk)[-_][\w*.-]{4,}|(?<=Bearer )[^\s\"']+", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class OpenAI:
    """The wire to one endpoint."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._key = spec.key()
        self._proxy = _proxy(spec.base_url)
        self._timeout = aiohttp.ClientTimeout(total=float(spec.options.get("timeout", TIMEOUT)), sock_connect=_CONNECT)
        self._limit_name = "max_tokens"
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Reply:
        """One attempt."""
        limit = self._limit_name
        status, headers, raw = await self.fetch("POST", "/chat/completions", json.dumps(self.body(request), separators=(",", ":")).encode())
        if status == 200:
            return self.reply(raw)
        words = self.words(raw)
        if status == 400 and "max_completion_tokens" in words and "max_tokens" in request.sampling and limit == "max_tokens":
            self._limit_name = "max_completion_tokens"  # OpenAI's reasoning models know the limit by this name only
            raise Transient(words, busy=False)
        raise self.failure(status, words, _retry_after(headers))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request."""
        sampling = {k: v for k, v in request.sampling.items() if k != "extra"}
        if self._limit_name in sampling or "max_tokens" not in sampling:
            body = sampling
        else:
            body = {self._limit_name if k == "max_tokens" else k: v for k, v in sampling.items()}
        extra: Mapping[str, Any] = request.sampling.get("extra", {})
        return {"model": self._spec.model, "messages": request.messages, **body, **extra}

    async def fetch(self, method: str, path: str, data: Any = None, kind: str = _JSON) -> tuple[int, Mapping[str, str], bytes]:
        """One exchange: status, headers, body; what the network does wrong is Transient."""
        session = self._session or self._connect()
        headers = {"Content-Type": kind}
        try:
            async with session.request(
                method, self._spec.base_url + path, data=data, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise Transient(f"no answer within {self._timeout.total:g} s", charged=not connecting, reached=not connecting) from None
        except aiohttp.ClientConnectorError as error:
            raise Transient(self._scrubbed(f"no connection to {self._spec.base_url} ({error.os_error})"), reached=False) from None
        except (aiohttp.ClientError, OSError) as error:
            words = self._scrubbed(f"the connection broke ({type(error).__name__}: {error})")
            raise Transient(words, busy=False, charged=isinstance(error, aiohttp.ClientPayloadError)) from None

    def _connect(self) -> aiohttp.ClientSession:
        headers = {"Accept": "*/*", "User-Agent": "prefdata"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=self._timeout,
        )
        return self._session

    def reply(self, raw: bytes) -> Reply:
        """Read a chat completion; whatever is not one is Transient."""
        try:
            data = _decode(raw.decode())
            if b"\\ud" in raw or b"\\uD" in raw:
                data = _whole_characters(data)
        except ValueError:
            raise Transient(f"an answer that is not JSON: {self._shown(raw)}", busy=False, charged=True) from None
        try:
            if "choices" not in data and data.get("error"):
                code = data["error"].get("code") if isinstance(data["error"], dict) else None
                raise self.failure(code if isinstance(code, int) and 400 <= code < 600 else 500, self.words(raw), None)
            return _read(data, self._spec.model)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise Transient(f"an answer that is not a chat completion: {self._shown(raw)}", busy=False, charged=True) from None

    def failure(self, status: int, words: str, after: float | None) -> Exception:
        """The exception for an answer other than 200."""
        who, said = f"model {self._spec.name!r}", f"the server says {status}: {words}"
        if status in _HOPELESS or (status == 429 and "insufficient_quota" in words):
            what = _HOPELESS.get(status, "wants payment")
            where = self._spec.base_url
            return Stopped(f"stopped, since the server of {who} {what} ({where}): {said}; mend it and run the same command again.")
        if 300 <= status < 400:
            return Stopped(f"stopped, since {self._spec.base_url} redirects elsewhere ({status}); set base_url of {who} to where it leads.")
        if after and after > LONGEST_AFTER:
            return Stopped(f"stopped, since the server of {who} asks to wait {after:.0f} s: {said}; run the same command again then.")
        if status in _TRANSIENT or status >= 500:
            return Transient(said, busy=status in _BUSY or status >= 500, after=after)
        return CallFailed(said)

    def words(self, raw: bytes) -> str:
        """What the server says, in its own words, without the key."""
        text = raw.decode(errors="replace")
        try:
            data = json.loads(text)
            error = data.get("error", data)
            if isinstance(error, dict):
                error = " ".join(str(error[k]) for k in ("message", "detail", "code", "type") if error.get(k)) or data
            text = str(error)
        except (ValueError, AttributeError):
            pass
        return self._scrubbed(" ".join(text.split()))[:_WORDS] or "(nothing)"

    def _shown(self, raw: bytes) -> str:
        return repr(self._scrubbed(raw[:120].decode(errors="replace"))) if raw else "nothing"

    def _scrubbed(self, text: str) -> str:
        if self._key:
            text = text.replace(self._key, "[key]")
        return _KEYS.sub("[key]", text)


def _read(data: dict[str, Any], asked: str) -> Reply:
    """A chat completion as a Reply."""
    choice = data["choices"][0]
    message = choice["message"]
    content, finish = message.get("content"), choice.get("finish_reason")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    if content is None and message.get("refusal"):
        content, finish = message["refusal"], "refusal"
    if content is not None and not isinstance(content, str):
        raise ValueError("content is not text")
    usage = data.get("usage") or {}
    return Reply(
        text=content or "",
        model=str(data.get("model") or asked),
        finish=finish,
        tokens_in=int(usage.get("prompt_tokens") or 0),
        tokens_out=int(usage.get("completion_tokens") or 0),
        logprobs=choice.get("logprobs"),
        reasoning=message.get("reasoning_content") or message.get("reasoning"),
        tool_calls=message.get("tool_calls") or None,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    host = urlsplit(url).hostname or ""
    return None if proxy_bypass(host) else getproxies().get(urlsplit(url).scheme)


def _finite(name: str) -> float | None:
    """JSON knows no infinity: the log-probability of the impossible is -9999, as in OpenAI's API."""
    return -9999.0 if name == "-Infinity" else None


_decode = json.JSONDecoder(parse_constant=_finite).decode


def _whole_characters(value: Any) -> Any:
    """Half characters (lone surrogates) cannot be stored; each becomes U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole_characters(item) for key, item in value.items()}
    return value
