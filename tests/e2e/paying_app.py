"""The application of ``test_approvals.py``: a tool that pays and appends to a file."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, create_app, hookimpl, tool

#: Environment variable with the path of the file, which has one line per payment.
LEDGER = "ASTRBOT_TEST_LEDGER"


class Till:
    """Plugin with the tool."""

    name = "till"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return the tool."""
        return [tool(needs_approval=True)(pay)]


def pay(amount: int) -> str:
    """Pay an amount."""
    ledger = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{amount}\n".encode())  # one write, so that workers do not interleave
    finally:
        os.close(ledger)
    return f"paid {amount}"


def create_paying_app() -> Flask:
    """Return the application."""
    plugins: list[Any] = [Till]
    return create_app(api=AstrBotAPI(plugins=plugins))
