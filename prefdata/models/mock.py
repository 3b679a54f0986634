"""A model that answers from a script: offline, counted, the same answer to the same request every time.

What `replies` may be:

- `echo`: the last message comes back.
- a text: always this.
- a list: the request's hash picks one, and sample k takes the k-th after it.
- `{contains: {needle: reply, ...}, default: reply}`: the first needle found in the messages decides; each reply is
  again a text, `echo`, a list or an answer.
- an answer with particulars: `{text: A, logprobs: {A: -0.1, B: -2.4}, finish: stop, tokens_in: 10, tokens_out: 3}`, or
  `{fail: words}` for a request that fails for good.
- a file (.yaml or .json) that holds one of these.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.core.ids import canonical_json
from prefdata.models.protocol import CallFailed, Reply
from prefdata.models.request import Request
from prefdata.models.spec import Spec

_ANSWER = ("text", "logprobs", "finish", "tokens_in", "tokens_out", "reasoning", "fail")
_RULE = ("contains", "default")
_ALLOWED = "echo, a text, a list, {contains: {needle: reply}, default: reply}, {text: ...}, {fail: ...} or a .yaml or .json file"
_BYTES_PER_TOKEN = 4


class Mock:
    """The scripted model.

    Attributes:
        asked: how many requests it answered.
    """

    def __init__(self, spec: Spec) -> None:
        self._model = spec.model
        self._script = script(spec)
        self._delay = float(spec.options.get("delay", 0.0))
        self.asked = 0

    async def send(self, request: Request) -> Reply:
        await asyncio.sleep(self._delay)
        self.asked += 1
        texts = [_text(message.get("content")) for message in request.messages]
        answer = _choose(self._script, texts, request)
        if answer.get("fail"):
            raise CallFailed(str(answer["fail"]))
        text = str(answer["text"])
        return Reply(
            text=text,
            model=self._model,
            finish=answer.get("finish", "stop"),
            tokens_in=answer.get("tokens_in", sum(len(t.encode()) for t in texts) // _BYTES_PER_TOKEN + 1),
            tokens_out=answer.get("tokens_out", len(text.encode()) // _BYTES_PER_TOKEN + 1),
            logprobs=_logprobs(answer.get("logprobs")),
            reasoning=answer.get("reasoning"),
        )

    async def close(self) -> None:
        """Nothing is open."""


def script(spec: Spec) -> Any:
    """The replies of a recipe, read from their file where one is named, and checked."""
    replies, where = spec.options["replies"], f"model {spec.name!r}: replies"
    if isinstance(replies, str) and replies.endswith((".yaml", ".yml", ".json")):
        path = Path(replies)
        try:
            replies = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PrefdataError(f"{where} cannot be read from {replies!r}: {error}.") from None
    _check(replies, where)
    return replies


def fingerprint(spec: Spec) -> str:
    """Changes with the script, so that no old answer is taken for a new one."""
    return hashlib.sha256(canonical_json(script(spec)).encode()).hexdigest()[:16]


def _check(reply: Any, where: str) -> None:
    if isinstance(reply, str):
        return
    if isinstance(reply, list) and reply:
        for item in reply:
            _check(item, where)
        return
    if isinstance(reply, Mapping) and "contains" in reply:
        for key in reply:
            if key not in _RULE:
                raise UnknownName("key", str(key), _RULE, f" of {where}")
        if not isinstance(reply["contains"], Mapping):
            raise BadValue(f"{where}: contains", reply["contains"], "needles with replies")
        for item in (*reply["contains"].values(), reply.get("default", "")):
            _check(item, where)
        return
    if isinstance(reply, Mapping) and ("text" in reply or "fail" in reply):
        for key in reply:
            if key not in _ANSWER:
                raise UnknownName("key", str(key), _ANSWER, f" of {where}")
        return
    raise BadValue(where, reply, _ALLOWED)


def _choose(reply: Any, texts: list[str], request: Request) -> Mapping[str, Any]:
    if reply == "echo":
        return {"text": texts[-1] if texts else ""}
    if isinstance(reply, str):
        return {"text": reply}
    if isinstance(reply, list):
        return _choose(reply[(_draw(request) + request.sample) % len(reply)], texts, request)
    if "contains" in reply:
        for needle, found in reply["contains"].items():
            if any(str(needle) in text for text in texts):
                return _choose(found, texts, request)
        if "default" not in reply:
            return {"fail": "the script holds no reply for this request, and no default"}
        return _choose(reply["default"], texts, request)
    answer: Mapping[str, Any] = reply
    return answer


def _draw(request: Request) -> int:
    """A number that is the same for all samples of a request."""
    text = canonical_json([list(request.messages), {k: v for k, v in request.sampling.items() if k != "seed"}])
    return int(hashlib.sha256(text.encode(errors="replace")).hexdigest()[:15], 16)


def _logprobs(given: Any) -> Any:
    """`{A: -0.1, B: -2.4}` as the log-probabilities of one token, the most likely one being it."""
    if not isinstance(given, Mapping) or "content" in given:
        return given
    top = [{"token": str(t), "logprob": float(p)} for t, p in sorted(given.items(), key=lambda item: -item[1])]
    return {"content": [{**top[0], "top_logprobs": top}]}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return json.dumps(content, ensure_ascii=False) if content is not None else ""
