"""Tool names are converted for OpenAI-compatible endpoints and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import (
    Delta,
    ModelMessage,
    ModelOptions,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)
from astrbot_api.providers.safe_names import SafeNames, to_safe_name

OPTIONS = ModelOptions(cancel=Cancellation())


class CallsAll:
    """A model that calls every offered tool."""

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []
        self.names: list[str] = []
        self.chosen: Any = None
        self.closed = False

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        self.messages = list(messages)
        self.chosen = options.extra.get("tool_choice")
        self.names = [spec["function"]["name"] for spec in tools]
        try:
            yield TextDelta("hm")
            for index, name in enumerate(self.names):
                yield ToolCallDelta(index, f"id{index}", name)
                yield ToolCallDelta(index, arguments="{}")
        finally:
            self.closed = True


def spec(name: str) -> ToolSpec:
    return {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}


def called(model: CallsAll, *names: str, messages: Sequence[ModelMessage] = ()) -> list[str]:
    deltas = list(SafeNames(model).stream(messages, [spec(name) for name in names], OPTIONS))
    assert deltas[0] == TextDelta("hm")
    return [one.name for one in deltas if isinstance(one, ToolCallDelta) and one.name]


def test_the_endpoint_sees_no_dot_and_we_see_it_again() -> None:
    model = CallsAll()
    assert called(model, "time.now", "calculate") == ["time.now", "calculate"]
    assert model.names == ["time__now", "calculate"]


def test_two_names_never_become_one() -> None:
    model = CallsAll()
    names = (
        "a.b", "a__b", "a..b", "a____b", "x" * 100, "x" * 101, "21st_magic", "n21st_magic", "-a",
    )  # fmt: skip
    assert called(model, *names) == list(names)
    assert len(set(model.names)) == len(names)


def test_the_calls_of_the_conversation_are_renamed_too() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "time.now", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    model = CallsAll()
    called(model, messages=[{"role": "user", "content": "hi"}, message])
    assert model.messages[1]["tool_calls"][0]["function"]["name"] == "time__now"
    assert call["function"]["name"] == "time.now"  # type: ignore[index]


def test_a_chosen_tool_is_renamed_too() -> None:
    model = CallsAll()
    choice = {"type": "function", "function": {"name": "21st_magic"}}
    options = ModelOptions(Cancellation(), extra={"tool_choice": choice})
    list(SafeNames(model).stream([], [spec("21st_magic")], options))
    assert model.chosen["function"]["name"] == model.names[0]


def test_closing_closes_the_model() -> None:
    model = CallsAll()
    deltas: Any = SafeNames(model).stream([], [], OPTIONS)
    next(deltas)
    deltas.close()
    assert model.closed


@given(st.text(min_size=1))
def test_every_name_becomes_a_safe_one(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", to_safe_name(name))
