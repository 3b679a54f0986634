"""What stands on the shelves, read from the files' headers with `ast`: nothing is imported to list it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.method import HEADER, Method, Param, Wanted
from prefdata.core.protocols import USES

SHELVES: dict[str, str] = {
    "sources": "file, folder or Hub dataset -> prompts, responses, pairs, annotations",
    "strategies": "prompt -> responses",
    "pairing": "scored responses of one prompt -> pairs",
    "judges": "pair, response or all responses of a prompt -> annotations",
    "acquire": "pool -> who or what to annotate next",
    "aggregate": "annotations -> labels",
    "signals": "pair, response or prompt -> numbers",
    "filters": "pair + signals -> keep, or the reason to drop",
    "audits": "the whole store -> report",
    "exports": "kept pairs -> files, manifest and card",
    "losses": "log-probabilities -> loss per pair",
    "heads": "states -> rewards -> loss",
}
STEP_NAMES: dict[str, str] = {
    "source": "sources",
    "strategy": "strategies",
    "pairing": "pairing",
    "judge": "judges",
    "acquire": "acquire",
    "aggregate": "aggregate",
    "signal": "signals",
    "filter": "filters",
    "audit": "audits",
    "export": "exports",
}
"""A step's name in a recipe -> the shelf it takes its method from."""

_PACKAGE = Path(__file__).resolve().parent.parent
_INSIDE = {"losses": "train/losses", "heads": "train/heads"}
_plugins: list[Path] = []


def add_plugins(folder: Path) -> None:
    """Shelves of a user's own: `folder/judges/mine.py` becomes judges/mine."""
    if not folder.is_dir():
        raise PrefdataError(
            f"the plugin folder {str(folder)!r} does not exist; give a folder with shelves in it, such as my_methods/judges/mine.py."
        )
    if folder not in _plugins:
        _plugins.append(folder)
        shelf_methods.cache_clear()


@cache
def shelf_methods(shelf: str) -> dict[str, Method]:
    """The methods of one shelf by name, sorted."""
    if shelf not in SHELVES:
        raise UnknownName("shelf", shelf, SHELVES)
    found = {}
    for root in (_PACKAGE / _INSIDE.get(shelf, shelf), *(p / shelf for p in _plugins)):
        for path in sorted(root.glob("[!_]*.py")):
            found[path.stem] = read_method(shelf, path)
    return dict(sorted(found.items()))


def find(shelf: str, name: str) -> Method:
    """The method `name` of `shelf`, or an error that offers the nearest."""
    methods = shelf_methods(shelf)
    if name not in methods:
        raise UnknownName("method", name, methods, f" on the shelf {shelf}")
    return methods[name]


def everything() -> Iterator[Method]:
    for shelf in SHELVES:
        yield from shelf_methods(shelf).values()


def read_method(shelf: str, path: Path) -> Method:
    """Read one method file's header without importing it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise PrefdataError(f"{path}, line {error.lineno}: {error.msg}; a method file must be valid Python.") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == path.stem:
            return _from_node(shelf, path, node)
    raise PrefdataError(f"{path} has no function named {path.stem!r}; a method is one function named as its file.")


def _from_node(shelf: str, path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Method:
    args = node.args
    left = (*args.posonlyargs, *args.args)
    first_default = len(left) - len(args.defaults)
    wanted = [_wanted(arg, has_default=number >= first_default) for number, arg in enumerate(left)]
    params = {}
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        value = inspect.Parameter.empty if default is None else _literal(path, default)
        params[arg.arg] = Param(arg.arg, ast.unparse(arg.annotation) if arg.annotation else "Any", value)
    doc = ast.get_docstring(node) or ""
    for name, text in _arg_docs(doc).items():
        if name in params:
            params[name] = Param(name, params[name].annotation, params[name].default, text)
    return Method(
        shelf=shelf,
        name=path.stem,
        doc=doc,
        path=path,
        handed=tuple(arg.arg for arg in left),
        models={one.name: one for one in wanted if one},
        params=params,
        header=_header(path, node),
        load=_loader(path),
    )


def _wanted(arg: ast.arg, *, has_default: bool) -> Wanted | None:
    """The model that an argument left of the star asks for, by its type; one called `ask` or `policy` needs no type."""
    use, several, optional = _model_type(arg.annotation) if arg.annotation else (None, False, False)
    if use is None and arg.annotation is None and arg.arg in USES.values():
        use = arg.arg
    return Wanted(arg.arg, use, several, optional or has_default) if use else None


def _model_type(node: ast.expr) -> tuple[str | None, bool, bool]:
    """What `Ask`, `Mapping[str, Ask]` or `Ask | None` wants: the use (None: no model), several, optional."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _model_type(ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            return None, False, False
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = _model_type(node.left), _model_type(node.right)
        return left[0] or right[0], left[1] or right[1], True
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value).rpartition(".")[2]
        if outer == "Optional":
            return (*_model_type(node.slice)[:2], True)
        if outer in ("Mapping", "dict") and isinstance(node.slice, ast.Tuple):
            return _model_type(node.slice.elts[-1])[0], True, False
    if isinstance(node, ast.Name | ast.Attribute):
        return USES.get(ast.unparse(node).rpartition(".")[2]), False, False
    return None, False, False


def _header(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "method":
            given = {k.arg: _literal(path, k.value) for k in decorator.keywords if k.arg}
            return {**HEADER, **given}
    raise PrefdataError(f"{path}: the function {node.name!r} lacks the @method(...) header.")


def _literal(path: Path, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise PrefdataError(f"{path}, line {node.lineno}: headers and defaults must be literals, not {ast.unparse(node)!r}.") from None


def _arg_docs(doc: str) -> dict[str, str]:
    """`name: text` lines below `Args:` in a docstring."""
    out: dict[str, str] = {}
    name = ""
    for line in doc.partition("Args:\n")[2].splitlines():
        if not line.strip() or not line.startswith(" "):
            break
        head, colon, rest = line.strip().partition(": ")
        if colon and head.isidentifier() and not line.startswith("     "):
            name, out[head] = head, rest
        elif name:
            out[name] += " " + line.strip()
    return out


def _loader(path: Path) -> Callable[[], Callable[..., Any]]:
    def load() -> Callable[..., Any]:
        return getattr(_module(path), path.stem)  # type: ignore[no-any-return]

    return load


def _module(path: Path) -> Any:
    if path.is_relative_to(_PACKAGE):
        dotted = ".".join(("prefdata", *path.relative_to(_PACKAGE).with_suffix("").parts))
        return importlib.import_module(dotted)
    dotted = f"prefdata_plugin_{abs(hash(str(path)))}"
    if dotted not in sys.modules:
        spec = importlib.util.spec_from_file_location(dotted, path)
        if spec is None or spec.loader is None:
            raise PrefdataError(f"{path} cannot be loaded as a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[dotted] = module
        spec.loader.exec_module(module)
    return sys.modules[dotted]
