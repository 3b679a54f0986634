"""`prefdata methods`: what stands on the shelves, read from the files' headers; nothing is imported to list it."""

from __future__ import annotations

import json as jsons
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from prefdata.cli.options import AsJson
from prefdata.cli.show import Screen
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.method import Method, Param


def _shelves(incomplete: str) -> list[str]:
    from prefdata.core import catalogue

    return [name for name in catalogue.SHELVES if name.startswith(incomplete)]


def methods(
    shelf: Annotated[
        str | None, typer.Argument(metavar="SHELF", help="Such as signals, or the step's name: signal.", autocompletion=_shelves)
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One method, with its parameters.")] = None,
    paper: Annotated[str | None, typer.Option(help="Only what comes from this paper (a part of its name or its arXiv id).")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The content of METHODS.md.")] = False,
    json: AsJson = False,
) -> None:
    """List the methods, or describe one.

    Of one: parameters, units, reasons, and a line for a recipe.

    Example:  prefdata methods filters where
    """
    from prefdata.core import catalogue

    screen = Screen(json)
    if markdown:
        typer.echo(as_markdown(), nl=False)
        return
    shelf = catalogue.STEP_NAMES.get(shelf or "", shelf)
    if shelf and name:
        one = catalogue.find(shelf, name)
        screen.data(as_dict(one)) if json else _show_one(one, screen)
        return
    found = [m for m in (catalogue.shelf_methods(shelf).values() if shelf else catalogue.everything()) if _is_of(m, paper)]
    if not found and paper:
        raise _no_paper(paper)
    if json:
        screen.data([as_dict(method) for method in found])
        return
    screen.table(
        [(m.shelf, m.name, m.summary, *([m.header["paper"]] if paper else [])) for m in found],
        ("shelf", "method", "what it does", *(["paper"] if paper else [])),
    )
    screen.next(f"prefdata methods {found[0].shelf} {found[0].name}" if found else "prefdata methods")


def _is_of(method: Method, paper: str | None) -> bool:
    return paper is None or paper.casefold() in str(method.header["paper"]).casefold()


def _no_paper(paper: str) -> PrefdataError:
    from prefdata.core import catalogue

    known = sorted({str(m.header["paper"]) for m in catalogue.everything() if m.header["paper"]})
    return BadValue("--paper", paper, "a part of one of: " + "; ".join(known))


def as_dict(method: Method) -> dict[str, Any]:
    """What the header says, for machines."""
    return {
        "shelf": method.shelf, "name": method.name, "summary": method.summary, "doc": method.doc, "version": method.version,
        "handed": list(method.handed), "models": [asdict(wanted) for wanted in method.models.values()],
        "recipe": recipe_line(method), "path": str(method.path),
        "params": [_param(p) for p in parameters(method)],
        **{field: method.header[field] for field in ("subject", "needs", "gives", "reasons", "columns", "paper")},
    }  # fmt: skip


def _param(param: Param) -> dict[str, Any]:
    default = None if param.required else param.default
    return {"name": param.name, "type": param.annotation, "required": param.required, "default": default, "doc": param.doc}


def parameters(method: Method) -> list[Param]:
    """Its own, and those that its shelf has for all."""
    return [*method.params.values(), *(p for p in shelf_wide(method.shelf) if p.name not in method.params)]


def shelf_wide(shelf: str) -> list[Param]:
    if shelf != "exports":
        return []
    from prefdata.core.exporting import SHELF_PARAMS

    return list(SHELF_PARAMS.values())


def recipe_line(method: Method) -> str:
    """A line to copy: what has no default is named in capitals."""
    from prefdata.core import catalogue

    if method.shelf == "losses":
        return f"prefdata train {method.name} EXPORT --model MODEL --out DIR"
    if method.shelf == "heads":
        return "prefdata train reward EXPORT --model MODEL --out DIR"
    step = next(name for name, shelf in catalogue.STEP_NAMES.items() if shelf == method.shelf)
    given = ["path: FILE"] if "path" in method.handed else []
    needed = [wanted for wanted in method.models.values() if not wanted.optional]
    given += [f"{wanted.name}: {'[MODEL, MODEL]' if wanted.several else 'MODEL'}" for wanted in needed]
    given += [f"{p.name}: {p.name.upper()}" for p in parameters(method) if p.required]
    return f"- {step}: {{{method.name}: {{{', '.join(given)}}}}}"


def _models(method: Method) -> str:
    """The models it takes, where the line for a recipe does not say it all: some may be left out, or come several at a time."""
    said = [f"{w.name}{' (several)' if w.several else ''}{' (may be left out)' if w.optional else ''}" for w in method.models.values()]
    return ", ".join(said) if any(w.several or w.optional for w in method.models.values()) else ""


def _show_one(method: Method, screen: Screen) -> None:
    screen.line(f"{method.shelf}/{method.name}, version {method.version}", "bold")
    screen.line(method.doc.partition("Args:\n")[0].strip())
    if method.header["paper"]:
        screen.line(f"paper: {method.header['paper']}")
    if _models(method):
        screen.line(f"models: {_models(method)}")
    screen.line()
    params = parameters(method)
    if params:
        screen.table([(p.name, p.annotation, _default(p), p.doc) for p in params], ("parameter", "type", "default", "meaning"))
    for field, head in (("gives", "unit"), ("reasons", "meaning"), ("columns", "holds")):
        if method.header[field]:
            screen.table(list(method.header[field].items()), (field.rstrip("s") if field != "gives" else "gives", head))
    if method.header["needs"]:
        screen.line(f"reads: {', '.join(method.header['needs'])}")
    screen.line("to use it:", "dim")
    screen.line(f"  {recipe_line(method)}")
    screen.next("prefdata run RECIPE --plan")


def _default(param: Param) -> str:
    """As a recipe would say it."""
    if param.required:
        return "required"
    value = param.default
    return value or '""' if isinstance(value, str) else jsons.dumps(value, ensure_ascii=False, default=str)


def as_markdown() -> str:
    """METHODS.md: every method by shelf, with parameters, units and reasons; the same text for the same shelves."""
    from prefdata.core import catalogue

    lines = ["# Methods", "", "Written by `prefdata methods --markdown > METHODS.md`; do not edit.", ""]
    for shelf, meaning in catalogue.SHELVES.items():
        listed = list(catalogue.shelf_methods(shelf).values())
        lines += [f"## {shelf}", "", f"{_cell(meaning)}" if listed else f"{_cell(meaning)}: none yet.", ""]
        if shelf == "exports":
            lines += ["Every export also takes:", "", *_params(shelf_wide(shelf))]
        for method in listed:
            lines += _entry(method)
    return "\n".join(lines).rstrip() + "\n"


def _entry(method: Method) -> list[str]:
    lines = [f"### {method.name}", "", _cell(method.summary), "", "```yaml", recipe_line(method), "```", ""]
    if method.header["paper"]:
        lines += [f"Paper: {_cell(method.header['paper'])}", ""]
    if _models(method):
        lines += [f"Models: {_cell(_models(method))}", ""]
    if method.params:
        lines += _params(method.params.values())
    for field, head in (("gives", "gives"), ("reasons", "reason"), ("columns", "column")):
        if method.header[field]:
            lines += [f"| {head} | {'unit' if field == 'gives' else 'meaning'} |", "|---|---|"]
            lines += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in method.header[field].items()]
            lines.append("")
    return lines


def _params(params: Iterable[Param]) -> list[str]:
    lines = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for param in params:
        default = "required" if param.required else f"`{_cell(_default(param))}`"
        lines.append(f"| `{param.name}` | `{_cell(param.annotation)}` | {default} | {_cell(param.doc)} |")
    return [*lines, ""]


def _cell(value: object) -> str:
    """One cell of one line; a `<` that could open a tag is written out."""
    return re.sub(r"<(?=[A-Za-z/!])", "&lt;", " ".join(str(value).split()).replace("|", "\\|"))
