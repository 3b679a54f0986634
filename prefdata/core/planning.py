"""What a step would cost: how many model calls a row makes, by the expression in its method's header, and their price.

The expression knows the method's parameters, the names of its models that come several at a time (for `len(asks)`) and,
for judges of all responses of a prompt, `responses`: their mean number. Without one, a row makes `n` calls where the
method has a parameter of that name, else 1. Models that come several at a time are each asked that often, unless the
expression names them.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prefdata.core.columns import relation
from prefdata.core.errors import BadValue, PrefdataError, UnknownName
from prefdata.core.method import Method

if TYPE_CHECKING:
    from prefdata.core.run import Bound, Context, StepReport

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv, ast.Mod: operator.mod, ast.USub: operator.neg, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.In: lambda x, y: x in y,
    ast.NotIn: lambda x, y: x not in y,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {"len": len, "min": min, "max": max, "ceil": math.ceil, "log2": math.log2}
RESPONSES = "responses"
_TYPICAL = 4
"""Responses of a prompt, where an expression is only tried out."""
_TOKENS_OUT = 256
_CHARS = {
    "prompt": ("prompt_chars",),
    "response": ("prompt_chars", "chars"),
    "pair": ("prompt_chars", "a_chars", "b_chars"),
}


def check_calls(bound: Bound) -> None:
    """Try the header's expression out; raises BadValue where it cannot give a number of calls."""
    calls_per_row(bound.method, bound.params, bound.handed, _TYPICAL)


def calls_per_row(method: Method, params: Mapping[str, Any], handed: Mapping[str, tuple[str, ...]], responses: float) -> float:
    """Model calls that one row is expected to make.

    Args:
        params: the method's, bound.
        handed: name left of the star -> names of the recipe's models.
        responses: mean number of responses of a prompt, for judges of all of them.
    """
    asks = {name: list(handed.get(name, ())) for name, wanted in method.models.items() if wanted.use == "ask"}
    if not any(asks.values()):
        return 0.0
    several = {name: names for name, names in asks.items() if method.models[name].several}
    text = method.header["calls"]
    scope = {**params, **several, RESPONSES: responses}
    where = f"{method.path}: calls"
    each = _evaluate(text, scope, where) if text else max(1, int(params.get("n") or 1))
    named = {node.id for node in ast.walk(ast.parse(text or "0", mode="eval")) if isinstance(node, ast.Name)}
    for name, names in several.items():
        each *= 1 if name in named else len(names)
    return float(each)


def estimate(context: Context, bound: Bound, report: StepReport, subject: str, rows: int, responses: float) -> None:
    """Write calls and cost of `rows` missing rows into `report`: four characters to a token, `max_tokens` (or 256) an answer.

    Where a row asks several models, each is taken to get its equal share of the calls.
    """
    asked = [name for use, names in bound.handed.items() if bound.method.models[use].use == "ask" for name in names]
    if not asked or context.models is None:
        return
    report.calls = math.ceil(calls_per_row(bound.method, bound.params, bound.handed, responses) * rows)
    names = _CHARS["response" if subject == "group" else subject]
    rel = relation("response" if subject == "group" else subject, names, context.keys)
    counted = f"coalesce(avg({names[0]}), 0), coalesce(avg({' + '.join(names[1:]) or '0'}), 0)"
    prompt, texts = context.store.rows(f"SELECT {counted} FROM ({rel.sql})", dict(rel.parameters))[0]
    chars = prompt + texts * (responses if subject == "group" else 1)
    out = int(bound.params.get("max_tokens") or _TOKENS_OUT)
    prices = [context.models.estimate(name, int(chars / 4), out) for name in asked]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        report.detail["cost"] = "unknown: no price for this model"
    else:
        report.cost = report.calls * sum(known) / len(known)


def _evaluate(text: str, scope: Mapping[str, Any], where: str) -> float:
    try:
        value = _value(ast.parse(text, mode="eval").body, scope, where)
    except PrefdataError:
        raise
    except Exception as error:
        raise BadValue(where, text, "an expression over the parameters that gives a number", f"It failed with: {error}.") from None
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise BadValue(where, text, "an expression that gives a number from 0", f"It gave {value!r}.")
    return float(value)


def _value(node: ast.expr, scope: Mapping[str, Any], where: str) -> Any:
    """The value of the few kinds of expression that a header may hold; nothing else is run."""

    def of(part: ast.expr) -> Any:
        return _value(part, scope, where)

    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            if node.id not in scope:
                raise UnknownName("name", node.id, scope, f" in {where}")
            return scope[node.id]
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](of(left), of(right))
        case ast.UnaryOp(op, operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](of(operand))
        case ast.BoolOp(op, parts):
            return of(next((part for part in parts if bool(of(part)) != isinstance(op, ast.And)), parts[-1]))
        case ast.IfExp(test, body, other):
            return of(body) if of(test) else of(other)
        case ast.Compare(left, [op], [right]) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](of(left), of(right))
        case ast.Tuple(elements) | ast.List(elements):
            return [of(element) for element in elements]
        case ast.Call(ast.Name(name), arguments, []) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(of, arguments))
    raise BadValue(where, ast.unparse(node), "names, numbers, arithmetic, comparisons, if-else, len, min, max, ceil and log2")
