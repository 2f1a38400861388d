"""Evaluate arithmetic expressions, with limits on every step."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

import simpleeval

from ...errors import ToolError

#: Maximum length of an expression, and of an operator's result.
MAX_CHARS = 500
_MAX_BITS = 8192

Number = int | float


def calculate(expression: str) -> str:
    """Return the value of an arithmetic expression.

    simpleeval evaluates the expression with the names defined here. Its operators are limited, so
    that no step computes with very long numbers.

    :raises ToolError: if the result is not a number.
    """
    if len(expression) > MAX_CHARS:
        raise ToolError(f"the expression is longer than {MAX_CHARS} characters")
    try:
        # Parse first, since simpleeval only warns where this raises.
        node = ast.parse(expression.strip(), mode="eval").body
        value = _evaluator().eval(expression, previously_parsed=node)
    except ToolError:
        raise
    except SyntaxError:
        raise ToolError("this is not an arithmetic expression; write powers as **") from None
    except Exception as error:
        raise ToolError(f"it cannot be calculated: {error}") from None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (int, float)):
        raise ToolError("the result is not a real number")
    return str(value)


def _evaluator() -> simpleeval.SimpleEval:
    names = {"pi": math.pi, "e": math.e, "tau": math.tau, "True": True, "False": False}
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names=names)
    allowed = (ast.Name, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call)
    evaluator.nodes = {kind: evaluator.nodes[kind] for kind in allowed}
    evaluator.nodes[ast.Constant] = _read_constant
    return evaluator


def _read_constant(node: ast.Constant) -> Any:
    """Accept only numbers, since a text times a number is a long text."""
    if not isinstance(node.value, (int, float)):
        raise ToolError("only numbers can be calculated with")
    return node.value


def _limited(operator: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Number) -> Any:
        result = operator(*values)
        if isinstance(result, int):
            _check_bits(result.bit_length())
        return result

    return call


def _check_bits(bits: float) -> None:
    if bits > _MAX_BITS:
        raise ToolError(f"the result is too long; at most {_MAX_BITS} bits are allowed")


def _power(base: Number, exponent: Number) -> Any:
    if isinstance(base, int):
        # Refuse before computing: the result has at least this many bits.
        _check_bits((base.bit_length() - 1) * exponent + 1)
    return base**exponent


def _round(value: Number, digits: Number = 0) -> Number:
    # round(5, -10**9) would compute 10**10**9.
    if abs(digits) > 400:
        raise ToolError("round: give at most 400 digits")
    return round(value, digits) if digits else round(value)  # type: ignore[arg-type]


def _factorial(value: Number) -> int:
    if value > 1000:
        raise ToolError("factorial: at most 1000")
    return math.factorial(int(value) if value == int(value) else -1)


# simpleeval's own power operator allows results that take minutes.
_OPERATORS = {
    kind: _limited(operator)
    for kind, operator in {**simpleeval.DEFAULT_OPERATORS, ast.Pow: _power}.items()
}

#: Of these only factorial returns a number longer than its arguments.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in (
        "sqrt", "exp", "log", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan",
        "atan2", "sinh", "cosh", "tanh", "degrees", "radians", "floor", "ceil", "trunc",
        "hypot", "gcd",
    )},
    "abs": abs, "min": min, "max": max, "round": _round, "factorial": _factorial,
}  # fmt: skip
