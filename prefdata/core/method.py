"""The star rule: one function is one method; what stands right of its `*` is what the user may set.

    @method(version=1, subject="pair", gives={"length_margin": "characters"})
    def length_margin(rows: pl.DataFrame, *, unit: Literal["chars", "words"] = "chars") -> pl.DataFrame:
        '''Length of a minus length of b.'''

Left of the star stands what the runner hands in, by name (`rows`, `prompt`, `pair`, `ask`, `policy`, ...). The
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
}
"""What a header may declare, with its default.

version      raised whenever results change; part of the key
subject      what a row is: prompt, response or pair
needs        columns read (see `columns.py`); the runner fetches these and no others
gives        signals: name -> unit
reasons      filters: reason code -> one line for a person
columns      exports: column -> what it holds
paper        where the method comes from: short name and arXiv id
prompt_file  a text file beside the code; its text is part of the key
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
    def prompt_text(self) -> str:
        file = self.header["prompt_file"]
        return (self.path.parent / file).read_text(encoding="utf-8") if file else ""

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
        """`shelf/name@version#hash` over all parameters, whatever else decides the answer (`also`) and the prompt file."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in bound.items()}
        text = canonical_json({"params": values, "also": dict(also), "prompt": self.prompt_text})
        return f"{self.shelf}/{self.name}@{self.version}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _coerce(what: str, value: Any, hint: Any, annotation: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(value)
    except ValidationError as error:
        raise BadValue(what, value, annotation.replace('"', "'"), error.errors()[0]["msg"] + ".") from None
