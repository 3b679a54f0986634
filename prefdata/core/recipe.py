"""A recipe: a YAML file with models and a list of steps. Unknown keys are refused with the nearest known one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prefdata.core import catalogue
from prefdata.core.errors import BadValue, PrefdataError, UnknownName

TOP = ("models", "steps", "only", "seed", "licences")


@dataclass(frozen=True)
class Step:
    """One line of a recipe: shelf, method, parameters as the user wrote them."""

    name: str
    method: str
    params: Mapping[str, Any]

    @property
    def shelf(self) -> str:
        return catalogue.STEP_NAMES[self.name]

    def __str__(self) -> str:
        return f"{self.name} {self.method}"


@dataclass(frozen=True)
class Recipe:
    """What to run.

    Attributes:
        models: name -> what stands behind it (kind, model, base_url, ...).
        steps: in order.
        only: sources to work on; empty: everything in the store.
        seed: of every random choice.
        licences: source -> licence, for the cards of exports.
        folder: relative paths that do not exist from the working directory are tried from here.
    """

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    only: tuple[str, ...] = ()
    seed: int = 0
    licences: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """What parse() takes; for manifests and the runs table."""
        return {
            "models": {k: dict(v) for k, v in self.models.items()},
            "steps": [{s.name: {s.method: dict(s.params)}} for s in self.steps],
            "only": list(self.only),
            "seed": self.seed,
            "licences": dict(self.licences),
        }


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply `key=value` overrides."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PrefdataError(f"there is no recipe at {str(path)!r}; copy the examples here with  prefdata init.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdataError(f"the recipe {str(path)!r} cannot be read: {error}.") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PrefdataError(f"{path}{where} is not YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(data, dict):
        raise PrefdataError(
            f"{path} holds {'nothing' if data is None else 'a ' + type(data).__name__}, not a recipe; it needs `steps:` with a list below."
        )
    return parse(override(data, overrides), folder=path.parent)


def parse(data: Mapping[str, Any], *, folder: Path | None = None) -> Recipe:
    """Check the shape of a recipe and the names in it."""
    for key in data:
        if key not in TOP:
            raise UnknownName("recipe key", str(key), TOP)
    steps = data.get("steps")
    if not isinstance(steps, list) or not steps:
        raise BadValue("steps", steps, "a list such as  - pairing: {all_pairs: {}}")
    models = _names(data, "models", "names with settings such as  writer: {kind: openai, model: my-8b}")
    if not all(isinstance(v, dict) for v in models.values()):
        raise BadValue("models", models, "names with settings such as  writer: {kind: openai, model: my-8b}")
    only = data.get("only") or []
    return Recipe(
        models=models,
        steps=tuple(_step(number, entry) for number, entry in enumerate(steps, 1)),
        only=tuple([only] if isinstance(only, str) else only),
        seed=_seed(data.get("seed")),
        licences=_names(data, "licences", "sources with licences such as  my_source: cc-by-4.0"),
        folder=folder,
    )


def _names(data: Mapping[str, Any], key: str, allowed: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict):
        raise BadValue(key, value, allowed)
    return value


def _seed(value: Any) -> int:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value or 0
    raise BadValue("seed", value, "a whole number")


def _step(number: int, entry: Any) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise BadValue(f"step {number}", entry, "one shelf with one method, such as  - signal: {length: {}}")
    ((name, value),) = entry.items()
    if name not in catalogue.STEP_NAMES:
        raise UnknownName(f"kind of step {number}", str(name), catalogue.STEP_NAMES)
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise BadValue(f"step {number} ({name})", value, f"one method of the shelf {catalogue.STEP_NAMES[name]}")
    ((method, params),) = value.items()
    catalogue.find(catalogue.STEP_NAMES[name], str(method))
    if not isinstance(params or {}, dict):
        raise BadValue(f"the parameters of step {number} ({name} {method})", params, "names with values")
    return Step(name, str(method), params or {})


def override(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `models.writer.base_url=...`, `strategy.sample_n.n=8`, `seed=3`; values are YAML."""
    changed = copy.deepcopy(dict(data))
    for item in overrides:
        path, equals, text = item.partition("=")
        if not equals:
            raise BadValue("override", item, "key=value, such as strategy.sample_n.n=8")
        value, parts = yaml.safe_load(text), path.split(".")
        if parts[0] in TOP and parts[0] != "steps":
            _set(changed, parts, value)
        elif not _set_in_steps(changed.get("steps"), parts, value):
            raise UnknownName("override", path, _targets(changed))
    return changed


def _set_in_steps(steps: Any, parts: Sequence[str], value: Any) -> bool:
    """Set STEP.METHOD.PARAMETER in every step of that name and method; whether there was one."""
    hits = 0
    for step in steps if isinstance(steps, list) and len(parts) == 3 else []:
        methods = step.get(parts[0]) if isinstance(step, dict) else None
        if methods == parts[1]:
            methods = step[parts[0]] = {parts[1]: {}}
        if isinstance(methods, dict) and parts[1] in methods:
            methods[parts[1]] = {**(methods[parts[1]] or {}), parts[2]: value}
            hits += 1
    return hits > 0


def _targets(data: Mapping[str, Any]) -> set[str]:
    """What an override may name."""
    names = {"seed", "only", *(f"models.{name}.SETTING" for name in data.get("models") or {})}
    for step in data.get("steps") or []:
        for kind, methods in step.items() if isinstance(step, dict) else ():
            names |= {f"{kind}.{method}.PARAMETER" for method in ([methods] if isinstance(methods, str) else methods or ())}
    return names


def _set(data: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    for part in parts[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise BadValue("override", ".".join(parts), "a path into the recipe's mappings")
    data[parts[-1]] = value
