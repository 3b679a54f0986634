"""The star rule: one function is one method; what stands right of its `*` is what the user may set.

    @method(version=1, subject="pair", gives={"length_margin": "characters"})
    def length_margin(rows: pl.DataFrame, *, unit: Literal["chars", "words"] = "chars") -> pl.DataFrame:
        '''Length of a minus length of b.'''

Left of the star stands what the runner hands in: first the rows, by name (`rows`, `prompt`, `pair`, `group`, ...); then
models, under any name, by type (`critic: Ask`, `asks: Mapping[str, Ask]`, `strong: Policy`); and `seed: int`. The
keyword-only parameters, with types and defaults, are the one source of the YAML key, the CLI flag, the app's form,
METHODS.md and the key under which results are stored.
"""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.core.ids import canonical_json
from prefdata.core.templates import load

Function = TypeVar("Function", bound=Callable[..., Any])

HEADER: dict[str, Any] = {
    "version": 1,
    "subject": "",
    "needs": (),
    "gives": {},
    "reasons": {},
    "columns": {},
    "paper": "",
    "prompt_file": "",
    "calls": "",
}
"""What a header may declare, with its default.

version      raised whenever results change; part of the key
subject      what a row is: prompt, response or pair (prompt for a judge: all responses of one)
needs        columns read (see `columns.py`); the runner fetches these and no others
gives        signals: name -> unit
reasons      filters: reason code -> one line for a person
columns      exports: column -> what it holds
paper        where the method comes from: short name and arXiv id
prompt_file  text files beside the code, one name or a tuple; their text is part of the key
calls        model calls for a row, as an expression over the parameters such as "2 if both_orders else 1" (see `planning.py`)
"""


@dataclass(frozen=True)
class Param:
    """One keyword-only parameter."""

    name: str
    annotation: str
    default: Any = inspect.Parameter.empty
    doc: str = ""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Wanted:
    """A model that stands left of the star.

    Attributes:
        use: what it must be able to do: ask, policy, reward, embed or sandbox.
        several: a mapping of models by name; the recipe gives a list.
        optional: the recipe may leave it out, and the method gets None.
    """

    name: str
    use: str
    several: bool = False
    optional: bool = False


def method(**header: Any) -> Callable[[Function], Function]:
    """Mark the one function of a method file; `header` holds literals only, so that a machine can read it unrun."""
    for name in header:
        if name not in HEADER:
            raise UnknownName("header field", name, HEADER)

    def mark(function: Function) -> Function:
        function.__dict__["prefdata"] = {**HEADER, **header}
        return function

    return mark


@dataclass(frozen=True)
class Method:
    """A method as the catalogue read it; `load()` gives the function."""

    shelf: str
    name: str
    doc: str
    path: Path
    handed: tuple[str, ...]
    """The names left of the star."""
    models: Mapping[str, Wanted]
    """Those of them that a recipe fills with models."""
    params: Mapping[str, Param]
    header: Mapping[str, Any]
    load: Callable[[], Callable[..., Any]]

    @property
    def version(self) -> int:
        return int(self.header["version"])

    @property
    def summary(self) -> str:
        return self.doc.strip().split("\n", 1)[0]

    @property
    def prompt_files(self) -> tuple[str, ...]:
        named = self.header["prompt_file"]
        return (named,) if isinstance(named, str) and named else tuple(named or ())

    @property
    def prompt_text(self) -> str:
        texts = {name: load(str(self.path), name) for name in self.prompt_files}
        return canonical_json(texts) if len(texts) > 1 else "".join(texts.values())

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters with defaults filled in and values brought to the declared types."""
        for name in given:
            if name not in self.params:
                raise UnknownName("parameter", name, self.params, f" of {self.shelf}/{self.name}")
        missing = [n for n, p in self.params.items() if p.required and n not in given]
        if missing:
            raise PrefdataError(f"{self.shelf}/{self.name} needs a value for {missing[0]!r} ({self.params[missing[0]].annotation}).")
        hints = typing.get_type_hints(self.load(), include_extras=True)
        return {
            name: _coerce(f"{self.shelf}/{self.name}: {name}", given[name], hints[name], param.annotation)
            if name in given
            else param.default
            for name, param in self.params.items()
        }

    def key(self, bound: Mapping[str, Any], also: Mapping[str, Any]) -> str:
        """`shelf/name@version#hash` over all parameters, whatever else decides the answer (`also`) and the prompt files.

        A parameter of type Path that names a file counts by what is in the file, not by its name.
        """
        values = {name: _keyed(value) for name, value in bound.items()}
        text = canonical_json({"params": values, "also": dict(also), "prompt": self.prompt_text})
        return f"{self.shelf}/{self.name}@{self.version}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _keyed(value: Any) -> Any:
    """A parameter as it enters the key."""
    if isinstance(value, Path):
        if not value.is_file():
            return str(value)
        with value.open("rb") as file:
            return {"file": hashlib.file_digest(file, "sha256").hexdigest()}
    if isinstance(value, list | tuple | set | frozenset):
        listed = [_keyed(item) for item in value]
        return sorted(listed, key=canonical_json) if isinstance(value, set | frozenset) else listed
    return {key: _keyed(held) for key, held in value.items()} if isinstance(value, Mapping) else value


def _coerce(what: str, value: Any, hint: Any, annotation: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(value)
    except ValidationError as error:
        raise BadValue(what, value, annotation.replace('"', "'"), error.errors()[0]["msg"] + ".") from None
