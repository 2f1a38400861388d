"""Half of a surrogate pair, which cannot be stored or sent, in texts of a host's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api import Command, Handled, TurnContext, hookimpl, tool
from astrbot_api.agent.provider import Delta, ModelMessage, ReasoningDelta, TextDelta, ToolCallDelta

from .conftest import Api

HALF = "half \ud83d"
REPLACED = "half \ufffd"


class Halves:
    """A plugin whose texts all end with a half."""

    name = "halves"

    @hookimpl
    def register_tools(self) -> list[Any]:
        return [tool(self.look)]

    @hookimpl
    def register_commands(self) -> list[Command]:
        return [Command("cut", "cut it", lambda context: HALF)]

    @hookimpl
    def on_message(self, message: str, context: TurnContext) -> str | Handled | None:
        if message == "handle":
            return Handled(HALF)
        return HALF if message == "change" else None

    def look(self) -> str:
        """Look."""
        return HALF


def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
    if messages[-1]["content"] == "look":
        yield ToolCallDelta(0, "c", "look", "{}")
    elif messages[-1]["role"] == "tool":
        yield TextDelta(f"seen: {messages[-1]['content']}")
    elif messages[-1]["content"] == "reason":
        yield ReasoningDelta(HALF)
        yield TextDelta("done")
    else:
        yield TextDelta("half \ud83d\ude00 ")
        yield TextDelta(HALF)


@pytest.mark.parametrize("message", ["hello", "look", "reason", "/cut", "handle", "change"])
def test_the_turn_ends_without_an_error_and_is_stored(
    make_scripted: Callable[..., Any], message: str
) -> None:
    api: Api = make_scripted(answer, plugins=[Halves])[0]
    events = api.chat(message, session_id="s")
    assert [event["data"] for event in events if event["type"] == "error"] == []
    assert events[-1]["type"] == "end"
    shown = "".join(str(event["data"]) for event in events if event["type"] == "plain")
    if message != "change":
        assert (REPLACED if message != "look" else "seen: half ?") in shown
    assert api.count_rows("message") == 2
