"""The mock as a policy, a reward model or an encoder: numbers from a script, offline, the same every time.

What a recipe says beside `kind: mock`:

- `logps`: log-probabilities of a text's tokens, such as `[-1, -3]`, or one number for a text of one token.
- `rewards`: a text's reward.
- `vectors`: a text's embedding, brought to length 1.

Each is a value for every text, or `{contains: {needle: value, ...}, default: value}`: the first needle found in the
conversation or the text decides. `{fail: words}` in the place of a value fails that row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefdata.core.errors import BadValue, UnknownName
from prefdata.core.ids import canonical_json
from prefdata.core.protocols import Logps, Messages
from prefdata.models.protocol import CallFailed
from prefdata.models.spec import SCRIPTED, Spec

_RULE = ("contains", "default")


class _Scripted:
    async def close(self) -> None:
        """Nothing is open."""


class ScriptedPolicy(_Scripted):
    """A Policy that reads log-probabilities from a script."""

    def __init__(self, spec: Spec) -> None:
        self._script = check(spec, "logps")

    async def logps(self, messages: Messages, texts: Sequence[str]) -> list[Logps]:
        found = [_listed(_choose(self._script, messages, text)) for text in texts]
        return [Logps(math.fsum(values), len(values)) for values in found]


class ScriptedReward(_Scripted):
    """A Reward that reads scores from a script."""

    def __init__(self, spec: Spec) -> None:
        self._script = check(spec, "rewards")

    async def scores(self, messages: Messages, texts: Sequence[str]) -> list[float]:
        return [float(_choose(self._script, messages, text)) for text in texts]


class ScriptedEmbed(_Scripted):
    """An Embed that reads vectors from a script."""

    def __init__(self, spec: Spec) -> None:
        self._script = check(spec, "vectors")

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = np.array([_choose(self._script, (), text) for text in texts], dtype=np.float64).reshape(len(texts), -1)
        unit: npt.NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


def fingerprint(spec: Spec) -> str:
    """Changes with the scripts; empty where there is none."""
    given = {name: spec.options[name] for name in SCRIPTED if name in spec.options}
    return hashlib.sha256(canonical_json(given).encode()).hexdigest()[:16] if given else ""


def check(spec: Spec, name: str) -> Any:
    """One script of a recipe, checked."""
    where = f"model {spec.name!r}: {name}"
    _check(spec.options[name], where, *_LEAVES[name])
    return spec.options[name]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _listed(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list) else [float(value)]


def _logps(value: Any) -> bool:
    return _number(value) or (isinstance(value, list) and bool(value) and all(map(_number, value)))


def _vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_number, value)) and any(value)


_LEAVES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "logps": (_logps, "a list of log-probabilities such as [-1, -3], or one"),
    "rewards": (_number, "a number"),
    "vectors": (_vector, "a list of numbers that are not all 0"),
}


def _check(value: Any, where: str, fits: Callable[[Any], bool], wanted: str) -> None:
    if isinstance(value, Mapping) and "contains" in value:
        for key in value:
            if key not in _RULE:
                raise UnknownName("key", str(key), _RULE, f" of {where}")
        if not isinstance(value["contains"], Mapping):
            raise BadValue(f"{where}: contains", value["contains"], "needles with values")
        for item in (*value["contains"].values(), *([value["default"]] if "default" in value else [])):
            _check(item, where, fits, wanted)
    elif not (isinstance(value, Mapping) and set(value) == {"fail"}) and not fits(value):
        raise BadValue(where, value, f"{wanted}, {{contains: {{needle: value}}, default: value}} or {{fail: words}}")


def _choose(value: Any, messages: Messages, text: str) -> Any:
    if isinstance(value, Mapping) and "contains" in value:
        texts = [*(str(message.get("content") or "") for message in messages), text]
        for needle, found in value["contains"].items():
            if any(str(needle) in one for one in texts):
                return _choose(found, messages, text)
        return _choose(value.get("default", {"fail": "the script holds no value for this text, and no default"}), messages, text)
    if isinstance(value, Mapping):
        raise CallFailed(str(value["fail"]))
    return value
