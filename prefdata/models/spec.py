"""What a recipe says about a model, checked: kind, settings of the run, default sampling, price; never a secret."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.models import prices
from prefdata.models.prices import Price

OPENAI = "https://api.openai.com/v1"
SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "logprobs", "top_logprobs", "logit_bias", "response_format", "reasoning_effort",
    "tools", "tool_choice", "parallel_tool_calls", "extra",
)  # fmt: skip
"""What changes answers; `extra` holds whatever else a server takes in the body."""
KINDS: dict[str, tuple[str, ...]] = {
    "openai": ("model", "base_url", "api_key_env", "max_concurrency", "rpm", "tpm", "timeout", "retries", "mode", "poll"),
    "transformers": ("path", "device", "dtype", "batch_size", "batch_tokens", "max_length", "truncation"),
    "sandbox": ("enabled", "isolation", "max_concurrency"),
    "mock": ("model", "replies", "delay", "max_concurrency", "logps", "rewards", "vectors"),
}
"""Kind -> its settings; `kind`, `price` and `revision` go with all of them."""
DTYPES = ("float32", "bfloat16", "float16", "auto")
TRUNCATIONS = ("refuse", "keep_start", "keep_end")
"""What happens to a text that is longer than `max_length` (or the model's context): it has no numbers, the response loses its
end, or the prompt its start."""
ISOLATIONS = ("full", "limits")
SCRIPTED = {"logps": "policy", "rewards": "reward", "vectors": "embed"}
"""Setting of a mock -> the use it makes possible; `replies` makes ask possible."""
USES: dict[str, tuple[str, ...]] = {
    "openai": ("ask",),
    "transformers": ("ask", "policy", "reward", "embed"),
    "sandbox": ("sandbox",),
    "mock": ("ask", *SCRIPTED.values()),
}
_COMMON = ("kind", "price", "revision")
_ONE_BY_ONE = ("n", "stream")
_NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
_COUNTS = ("max_tokens", "max_completion_tokens", "max_concurrency", "batch_size", "batch_tokens", "max_length", "top_k")
_SECRET = re.compile(r"key|secret|token$|password|passwd|authorization|credential|^headers$", re.IGNORECASE)
_LOOKS_SECRET = re.compile(r"\b(sk|hf|gsk|xai|AIza|ghp|pk)[-_]?[A-Za-z0-9_-]{16,}")
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,80}")


@dataclass(frozen=True)
class Spec:
    """One named model of a recipe."""

    name: str
    kind: str
    model: str
    options: Mapping[str, Any]
    sampling: Mapping[str, Any]
    price: Price | None
    revision: str | None = None

    @property
    def key_env(self) -> str | None:
        """The environment variable with the key; OpenAI's own is sent to OpenAI only."""
        given = self.options.get("api_key_env")
        return str(given) if given else ("OPENAI_API_KEY" if self.base_url == OPENAI else None)

    @property
    def base_url(self) -> str:
        return str(self.options.get("base_url") or OPENAI).rstrip("/")

    @property
    def max_concurrency(self) -> int:
        return int(self.options.get("max_concurrency") or 200)

    def key(self) -> str | None:
        """The secret itself, from the environment."""
        if self.key_env is None:
            return None
        value = os.environ.get(self.key_env, "").strip()
        if not value:
            raise PrefdataError(
                f"model {self.name!r} needs a key in the environment variable {self.key_env}; set it with  export {self.key_env}=...  "
                "(or, for a server of your own, give its base_url)."
            )
        return value


def read(name: str, given: Mapping[str, Any]) -> Spec:
    """Check what a recipe says about one model."""
    where = f"model {name!r}"
    kind = given.get("kind")
    if kind not in KINDS:
        raise UnknownName(f"kind of {where}:", str(kind), KINDS)
    _refuse_secrets(where, given)
    known = (*_COMMON, *KINDS[kind], *SAMPLING)
    for key in given:
        if key not in (*known, *_ONE_BY_ONE):
            raise UnknownName("setting", str(key), known, f" of {where}")
    options = {k: v for k, v in given.items() if k in KINDS[kind] and v is not None}
    sampling = check_sampling({k: v for k, v in given.items() if k in (*SAMPLING, *_ONE_BY_ONE)}, where)
    _check_options(where, kind, options)
    model = str(options.get("model") or options.get("path") or kind)
    price = prices.given(given["price"], where) if given.get("price") is not None else None
    if price is None:
        host = urlsplit(str(options.get("base_url") or OPENAI)).hostname or ""
        price = prices.listed(host, model, batch=options.get("mode") == "batch") if kind == "openai" else prices.FREE
    revision = given.get("revision")
    return Spec(name, kind, model, options, sampling, price, str(revision) if revision is not None else None)


def check_sampling(sampling: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Known names with sane values; a value of None means the server's default and is left out."""
    for name in _ONE_BY_ONE:
        if name in sampling:
            raise BadValue(f"{where}: {name}", sampling[name], "nothing", "Ask once for each draw, numbered by `sample`.")
    for name, value in sampling.items():
        if name not in SAMPLING:
            raise UnknownName("sampling parameter", name, SAMPLING, f" of {where}")
        if value is None:
            continue
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            raise BadValue(f"{where}: {name}", value, "a number")
        if name in _COUNTS and not _is_count(value):
            raise BadValue(f"{where}: {name}", value, "a whole number from 1")
        if name == "extra" and not isinstance(value, Mapping):
            raise BadValue(f"{where}: extra", value, "names with values, sent as they are in the body")
    return {name: value for name, value in sampling.items() if value is not None}


def _check_options(where: str, kind: str, options: Mapping[str, Any]) -> None:
    needed = {"openai": "model", "transformers": "path", "mock": "replies"}.get(kind)
    if needed and not options.get(needed) and not (kind == "mock" and any(name in options for name in SCRIPTED)):
        raise PrefdataError(f"{where} needs  {needed}: ...  ({'how the server calls it' if kind == 'openai' else 'see kind ' + kind}).")
    for name, allowed in (("truncation", TRUNCATIONS), ("isolation", ISOLATIONS)):
        if options.get(name, allowed[0]) not in allowed:
            raise BadValue(f"{where}: {name}", options[name], ", ".join(allowed))
    if not isinstance(options.get("enabled", False), bool):
        raise BadValue(f"{where}: enabled", options["enabled"], "true, false")
    for name in _COUNTS:
        if name in options and not _is_count(options[name]):
            raise BadValue(f"{where}: {name}", options[name], "a whole number from 1")
    for name in ("rpm", "tpm", "timeout", "poll"):
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf")):
            raise BadValue(f"{where}: {name}", value, "a number above 0")
    if str(options.get("dtype", "auto")) not in DTYPES:
        raise BadValue(f"{where}: dtype", options["dtype"], ", ".join(DTYPES))
    retries = options.get("retries", 0)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise BadValue(f"{where}: retries", retries, "a whole number from 0")
    if options.get("mode", "now") not in ("now", "batch"):
        raise BadValue(f"{where}: mode", options["mode"], "now, batch")
    url = urlsplit(str(options.get("base_url") or OPENAI))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise BadValue(f"{where}: base_url", options["base_url"], "http://... or https://..., such as http://localhost:8000/v1")


def _refuse_secrets(where: str, given: Mapping[str, Any]) -> None:
    """No secret in a recipe, and none repeated in the message that says so."""
    move = "put it in an environment variable and name that variable:  api_key_env: NAME"
    for key, value in given.items():
        if _SECRET.search(str(key)) and key != "api_key_env":
            raise PrefdataError(f"{where}: {str(key)[:40]!r} would put a secret into a recipe; {move}.")
        if (key != "replies" and _holds_secret(value)) or (key == "extra" and any(_SECRET.search(str(name)) for name in value or ())):
            raise PrefdataError(f"{where}: {key!r} holds what looks like a secret; {move}.")
    variable = given.get("api_key_env")
    if variable is not None and not _ENV_NAME.fullmatch(str(variable)):
        raise PrefdataError(
            f"{where}: api_key_env is the name of an environment variable in capitals (OPENAI_API_KEY), not the key itself."
        )
    url = urlsplit(str(given.get("base_url") or ""))
    if url.username or url.password or url.query:
        raise PrefdataError(f"{where}: base_url carries a user, password or query; leave them out, and {move}.")


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_secret(v) for v in value.values())
    return bool(isinstance(value, str) and _LOOKS_SECRET.search(value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
