"""The application of the approvals' end-to-end test: a tool that pays, and notes it in a file."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, create_app, hookimpl, tool

#: Names the file with a line for each payment.
LEDGER = "ASTRBOT_TEST_LEDGER"


class Till:
    """Has the tool."""

    name = "till"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return it."""
        return [tool(needs_approval=True)(pay)]


def pay(amount: int) -> str:
    """Pay an amount."""
    ledger = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{amount}\n".encode())  # one write: no other worker comes between
    finally:
        os.close(ledger)
    return f"paid {amount}"


def create_paying_app() -> Flask:
    """Return the application."""
    plugins: list[Any] = [Till]
    return create_app(api=AstrBotAPI(plugins=plugins))
