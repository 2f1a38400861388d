"""MCP tools as tools of an agent, without any sidecar."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.tools import Toolbox, ToolContext
from astrbot_api.config.mcp import McpServerConfig
from astrbot_api.mcp.tools import make_tools, name_tool

SERVER = McpServerConfig(name="odd", command=("x",), timeout_s=7)
ECHO = {
    "name": "echo",
    "description": "Say it again.",
    "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
}


class Answers:
    """A sidecar that gives one answer to every call, and notes the calls."""

    def __init__(self, *content: dict[str, Any], is_error: bool = False) -> None:
        self.answer = {"content": list(content), "is_error": is_error}
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []

    def call(
        self, key: str, tool: str, arguments: Mapping[str, Any], cancel: Cancellation
    ) -> dict[str, Any]:
        self.calls.append((key, tool, arguments))
        return self.answer


def run(answers: Answers, context: ToolContext | None = None) -> str:
    toolbox = Toolbox(make_tools(SERVER, [ECHO], "KEY", answers))
    context = context or ToolContext("alice", "s", "default", Cancellation())
    return toolbox.run("odd.echo", '{"text": "hi"}', context)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def picture(data: str = base64.b64encode(b"dots").decode()) -> dict[str, Any]:
    return {"type": "file", "name": "image", "mime": "image/png", "data": data}


def test_a_tool_has_the_servers_name_description_and_schema() -> None:
    (tool,) = make_tools(SERVER, [ECHO], "KEY", Answers())
    assert tool.to_spec()["function"] == {
        "name": "odd.echo",
        "description": "Say it again.",
        "parameters": ECHO["parameters"],
    }
    assert tool.timeout_s == 7


def test_texts_are_joined() -> None:
    answers = Answers(text("one"), text("two"))
    assert run(answers) == "one\ntwo"
    assert answers.calls == [("KEY", "echo", {"text": "hi"})]


def test_what_the_tool_calls_an_error_is_one() -> None:
    assert run(Answers(text("it broke"), is_error=True)) == "error: it broke"
    assert run(Answers(is_error=True)).startswith("error: the tool failed")


def test_a_picture_goes_to_the_user() -> None:
    sent: list[tuple[Any, str]] = []

    def send(source: Path | str | bytes, filename: str) -> str:
        sent.append((source, filename))
        return "id"

    context = ToolContext("alice", "s", "default", Cancellation(), send_file=send)
    said = run(Answers(text("look"), picture()), context)
    assert said == "look\n[image.png: image/png, 4 bytes; it was shown to the user]"
    assert sent == [(b"dots", "image.png")]


def test_a_picture_that_cannot_be_shown_is_named() -> None:
    said = run(Answers(picture()))
    assert said == (
        "[image.png: image/png, 4 bytes; not shown to the user: files cannot be sent here]"
    )


def test_a_picture_that_is_none_is_named() -> None:
    assert run(Answers(picture("x"))) == "[image.png: image/png, cannot be read]"


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x.json"}}},
        {"type": 7},
        "no schema",
    ],
)
def test_a_tool_with_a_bad_schema_is_offered_and_named(
    parameters: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {**ECHO, "name": "bad", "parameters": parameters}
    tools = make_tools(SERVER, [bad, ECHO], "KEY", Answers())
    assert [tool.name for tool in tools] == ["odd.bad", "odd.echo"]
    assert tools[0].to_spec()["function"]["parameters"]["type"] == "object"
    tools[0].find_fault({"a": 1})
    assert "the tool odd.bad is offered, its arguments are not fully checked" in caplog.text


def test_a_tool_that_is_none_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    tools = make_tools(SERVER, [{"name": 7}, {}, ECHO], "KEY", Answers())
    assert [tool.name for tool in tools] == ["odd.echo"]
    assert "MCP server odd: 7 is left out" in caplog.text


def test_names_that_become_the_same_stay_two_tools() -> None:
    names = [{**ECHO, "name": name} for name in ("list/things", "list things", "list_things")]
    tools = make_tools(SERVER, names, "KEY", Answers())
    assert len({tool.name for tool in tools}) == 3
    assert tools[0].name == "odd.list_things"


def test_a_name_has_the_characters_and_length_it_may_have() -> None:
    assert name_tool("odd", "read file/all") == "odd.read_file_all"
    one, other = name_tool("odd", "x" * 200), name_tool("odd", "x" * 201)
    assert len(one) == 128
    assert one != other


def test_allow_and_deny_take_the_public_names() -> None:
    tools = make_tools(SERVER, [ECHO, {**ECHO, "name": "wait"}], "KEY", Answers())
    box = Toolbox([*tools, replace(tools[0], name="other")], allow=("odd.*",), deny=("*.wait",))
    assert [one["function"]["name"] for one in box.to_specs()] == ["odd.echo"]
