"""Arithmetic that a model asks for, computed without ever running what it wrote."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from prefdata.core.errors import BadValue

LONGEST = 500
"""Characters of an expression."""
_BITS = 4_000
"""Size of a whole number; about 1,200 decimal digits."""
_DEEPEST = 60
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "log2": math.log2, "log10": math.log10, "sin": math.sin, "cos": math.cos,
    "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan, "degrees": math.degrees, "radians": math.radians,
    "floor": math.floor, "ceil": math.ceil, "round": round, "abs": abs, "min": min, "max": max, "gcd": math.gcd,
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "e": math.e}
ALLOWED = f"numbers, + - * / // % ** ( ), {', '.join((*_FUNCTIONS, 'factorial', 'comb'))}, pi, e"


def calculate(expression: str) -> int | float:
    """The value of an arithmetic expression; `^` is a power, and commas between thousands are passed over.

    Raises:
        BadValue: it is no such expression, it is too long or too large, or it has no real value.
    """
    text = expression.strip().replace("^", "**").replace("×", "*").replace("÷", "/").replace("−", "-")
    if len(text) > LONGEST:
        raise BadValue("the expression", text[:40] + "...", f"at most {LONGEST} characters")
    try:
        value: int | float = _value(ast.parse(text, mode="eval").body, _DEEPEST)
    except BadValue:
        raise
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, TypeError, RecursionError, MemoryError) as error:
        raise BadValue("the expression", text[:80], ALLOWED, f"It failed with: {error}.") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise BadValue("the expression", text[:80], "one with a finite value")
    return value


def _value(node: ast.expr, depth: int) -> Any:
    if depth == 0:
        raise BadValue("the expression", "...", f"at most {_DEEPEST} operations inside each other")

    def of(part: ast.expr) -> Any:
        return _value(part, depth - 1)

    match node:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return _small(value)
        case ast.Name(name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(ast.USub(), operand):
            return -of(operand)
        case ast.UnaryOp(ast.UAdd(), operand):
            return of(operand)
        case ast.BinOp(left, ast.Pow(), right):
            return _power(of(left), of(right))
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            return _small(_BINARY[type(op)](of(left), of(right)))
        case ast.Call(ast.Name("factorial"), [argument], []):
            return math.factorial(_count(of(argument), 400))
        case ast.Call(ast.Name("comb"), [first, second], []):
            return math.comb(_count(of(first), 2_000), _count(of(second), 2_000))
        case ast.Call(ast.Name(name), arguments, []) if name in _FUNCTIONS and len(arguments) <= 20:
            return _small(_FUNCTIONS[name](*map(of, arguments)))
    raise BadValue("the expression", ast.unparse(node)[:80], ALLOWED)


def _power(base: Any, exponent: Any) -> Any:
    """Never begun where a whole number would become too large."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) * max(1, abs(base).bit_length()) > _BITS:
        raise BadValue("the power", f"{str(base)[:20]} ** {str(exponent)[:20]}", "a result of at most about 1,200 digits")
    value = base**exponent
    if isinstance(value, complex):
        raise BadValue("the power", f"{base} ** {exponent}", "one with a real value")
    return _small(value)


def _small(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise BadValue("the value", "a whole number", "at most about 1,200 digits")
    return value


def _count(value: Any, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise BadValue("the argument", str(value)[:40], f"a whole number from 0 to {most}")
    return value
