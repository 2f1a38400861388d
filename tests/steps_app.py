"""An application whose model makes several steps, with a tool that must be called once.

The last message sets the parameters: ``STEPS=4 DELAY=20``. Each call of ``charge`` is appended to
the file ``ASTRBOT_TEST_CALLS``, with its idempotency key. If ``ASTRBOT_TEST_GATE`` is set, the
second step waits until this file exists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, ToolContext, create_app, hookimpl, tool
from astrbot_api.agent.provider import (
    Delta,
    ModelMessage,
    ModelOptions,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)

#: The provider's table. More lines of the config may follow.
CONFIG = """\
name = "default"
[provider]
id = "steps"
type = "mock"
[agent]
titles = false
show_reasoning = true
"""

#: Number of tokens per step.
_TOKENS = 8


class Till:
    """A plugin with two tools."""

    name = "till"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return both tools."""
        return [tool(charge), tool(retry="safe")(look)]


def charge(context: ToolContext, amount: int) -> str:
    """Charge an amount. It must not be done twice."""
    with Path(os.environ["ASTRBOT_TEST_CALLS"]).open("a", encoding="utf-8") as file:
        file.write(f"{context.idempotency_key}\n")
    return f"charged {amount}"


def look() -> str:
    """Look at the till."""
    return "seen"


class StepModel:
    """Yields words and calls both tools in each step. The messages are its only state."""

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Answer one request."""
        begin = max(at for at, one in enumerate(messages) if one["role"] == "user")
        text = str(messages[begin]["content"])
        step = sum(one["role"] == "assistant" for one in messages[begin:]) + 1
        delay_s = _number(text, "DELAY") / 1000
        yield ReasoningDelta(f"thinking of step {step}. ")
        gate = os.environ.get("ASTRBOT_TEST_GATE", "")
        while step == 2 and gate and not Path(gate).exists():
            options.cancel.wait(0.05)
            options.cancel.raise_if_cancelled()
        for number in range(_TOKENS):
            options.cancel.wait(delay_s)
            options.cancel.raise_if_cancelled()
            yield TextDelta(f"s{step}t{number} ")
        if step < _number(text, "STEPS"):
            yield ToolCallDelta(0, f"charge{step}", "charge", f'{{"amount":{step}}}')
            yield ToolCallDelta(1, f"look{step}", "look", "{}")


def expected_text(steps: int) -> str:
    """Return the text of a turn with this number of steps."""
    return "".join(f"s{step}t{n} " for step in range(1, steps + 1) for n in range(_TOKENS))


def create_steps_app() -> Flask:
    """Return the application."""
    plugins: list[Any] = [Till]
    return create_app(api=AstrBotAPI(plugins=plugins, providers={"steps": StepModel()}))


def _number(text: str, name: str) -> int:
    found = re.search(rf"{name}=(\d+)", text)
    return int(found[1]) if found else 1
