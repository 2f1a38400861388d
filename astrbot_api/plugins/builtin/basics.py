"""Tools for tasks that models do badly: the time, and arithmetic."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from ...agent.schema import tool
from ...agent.tools import Tool
from ...errors import ToolError
from ..hookspecs import hookimpl
from .calculator import calculate as evaluate


@tool(retry="safe")
def current_time(timezone: str = "") -> str:
    """Return the current date, time and weekday.

    :param timezone: IANA name such as Europe/Berlin, or empty for the server's time zone.
    """
    try:
        now = datetime.now(ZoneInfo(timezone)) if timezone else datetime.now().astimezone()
    except (KeyError, ValueError, OSError):
        raise ToolError(
            f"there is no time zone {timezone}; give an IANA name such as Asia/Shanghai"
        ) from None
    return f"{now.isoformat(timespec='seconds')} ({now:%A}, {now.tzname()})"


@tool(retry="safe")
def calculate(expression: str) -> str:
    """Calculate an arithmetic expression exactly.

    Supported: + - * / // % **, comparisons, pi, e, tau, abs, round, min, max,
    sqrt, exp, log, log2, log10, sin, cos, tan, asin, acos, atan, atan2, sinh, cosh,
    tanh, degrees, radians, floor, ceil, trunc, hypot, gcd, factorial.

    :param expression: For example (2 + 3) * 4 ** 2.
    """
    return evaluate(expression)


class Basics:
    """``current_time`` and ``calculate``."""

    name = "basics"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [current_time, calculate]
