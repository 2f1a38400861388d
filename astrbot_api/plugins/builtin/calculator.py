"""Arithmetic from a text, with limits that keep every step short."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import simpleeval

from ...errors import ToolError

#: Longest expression, and the longest number on the way to its result.
MAX_CHARS = 500
MAX_BITS = 8192

Number = int | float


def calculate(expression: str) -> str:
    """Return the value of an arithmetic expression.

    simpleeval walks the expression and knows no names but those given here;
    the operators are ours, since its own limits still allow powers that take
    minutes.

    :raises ToolError: for anything that is no number in the end.
    """
    if len(expression) > MAX_CHARS:
        raise ToolError(f"the expression is longer than {MAX_CHARS} characters")
    try:
        # Parsed here first: simpleeval warns where this raises.
        node = ast.parse(expression.strip(), mode="eval").body
        value = _evaluator().eval(expression, previously_parsed=node)
    except ToolError:
        raise
    except SyntaxError:
        raise ToolError("this is no arithmetic expression; powers are written **") from None
    except (RecursionError, MemoryError):
        raise ToolError("the expression is nested too deeply") from None
    except Exception as error:
        raise ToolError(f"it cannot be calculated: {error}") from None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (int, float)):
        raise ToolError("the result is no real number")
    return str(value)


def _evaluator() -> simpleeval.SimpleEval:
    names = {"pi": math.pi, "e": math.e, "tau": math.tau, "True": True, "False": False}
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names=names)
    allowed = (ast.Name, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call)
    nodes: dict[Any, Any] = {kind: evaluator.nodes[kind] for kind in allowed}
    nodes[ast.Constant] = _read_constant
    evaluator.nodes = nodes
    return evaluator


def _read_constant(node: ast.Constant) -> Any:
    """Let in numbers alone: a text times a number is a long text."""
    if not isinstance(node.value, (int, float)):
        raise ToolError("only numbers can be calculated with")
    return _limit(node.value)


def _limit(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ToolError(f"a number on the way is too long; at most {MAX_BITS} bits are allowed")
    return value


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Number) -> Any:
        return _limit(function(*values))

    return call


def _multiply(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    return left * right


def _power(base: Number, exponent: Number) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        _check_bits(base.bit_length() * exponent)
    return base**exponent


def _check_bits(bits: int) -> None:
    """Refuse before the work is done, not after."""
    if bits > MAX_BITS + 64:
        raise ToolError(f"the result is too long; at most {MAX_BITS} bits are allowed")


def _round(value: Number, digits: Number = 0) -> Number:
    # round(5, -10**9) would make the number 10**10**9 on its way.
    if not isinstance(digits, int) or abs(digits) > 400:
        raise ToolError("round: give at most 400 digits")
    return round(value, digits) if digits else round(value)


def _factorial(value: Number) -> int:
    if value > 1000:
        raise ToolError("factorial: at most 1000")
    return math.factorial(int(value)) if value == int(value) else math.factorial(-1)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _checked(operator.add),
    ast.Sub: _checked(operator.sub),
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _checked(getattr(math, name)) for name in (
        "sqrt", "exp", "log", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan",
        "atan2", "sinh", "cosh", "tanh", "degrees", "radians", "floor", "ceil", "trunc",
        "hypot", "gcd",
    )},
    **{name: _checked(one) for name, one in (
        ("abs", abs), ("round", _round), ("min", min), ("max", max),
    )},
    "factorial": _checked(_factorial),
}  # fmt: skip
