"""MCP tools as tools of an agent, without a sidecar."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.toolbox import Toolbox
from astrbot_api.agent.tools import Tool, ToolContext
from astrbot_api.config.mcp import McpServerConfig
from astrbot_api.errors import ToolError
from astrbot_api.mcp.prompts import make_prompts, read_arguments
from astrbot_api.mcp.tools import make_tools, name_tool

SERVER = McpServerConfig(name="odd", command=("x",), timeout_s=7)
ECHO = {
    "name": "echo",
    "description": "Say it again.",
    "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
}


class Answers:
    """A fake sidecar that gives one response to every call and records the calls."""

    def __init__(self, *content: dict[str, Any], is_error: bool = False) -> None:
        self.answer = {"content": list(content), "is_error": is_error}
        self.calls: list[Mapping[str, Any]] = []

    def __call__(
        self, request: Mapping[str, Any], cancel: Cancellation, report: Any = None
    ) -> dict[str, Any]:
        self.calls.append(request)
        return self.answer


def offer(*tools: dict[str, Any], resources: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"tools": tools, "resources": resources, "prompts": []}


def run(answers: Answers, context: ToolContext | None = None) -> str:
    toolbox = Toolbox(make_tools(SERVER, offer(ECHO), answers))
    context = context or ToolContext("alice", "s", "default", Cancellation())
    return toolbox.run("odd.echo", '{"text": "hi"}', context)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def picture(data: str = base64.b64encode(b"dots").decode()) -> dict[str, Any]:
    return {"type": "file", "name": "image", "mime": "image/png", "data": data}


def test_a_tool_has_the_servers_name_description_and_schema() -> None:
    (tool,) = make_tools(SERVER, offer(ECHO), Answers())
    assert tool.to_spec()["function"] == {
        "name": "odd.echo",
        "description": "Say it again.",
        "parameters": ECHO["parameters"],
    }
    assert tool.timeout_s == 7


def test_others_run_while_many_tools_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr("astrbot_api.mcp.tools.let_others_run", lambda: runs.append(None))
    many = [{**ECHO, "name": f"echo{number}"} for number in range(50)]
    assert len(make_tools(SERVER, offer(*many), Answers())) == len(runs) == 50


def test_texts_are_joined() -> None:
    answers = Answers(text("one"), text("two"))
    assert run(answers) == "one\ntwo"
    assert answers.calls == [{"tool": "echo", "arguments": {"text": "hi"}}]


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


@pytest.mark.parametrize("data", ["-_-_", "+/+/", "+/ +/\n", "-_-_AA", "-_-_AA=="])
def test_base64_is_read_in_all_its_forms(data: str) -> None:
    assert "cannot be read" not in run(Answers(picture(data)))


@pytest.mark.parametrize(
    ("mime", "name"),
    [("audio/wav", "x.wav"), ("image/webp", "x.webp"), ("image/svg+xml", "x.svg"), ("a/b", "x")],
)
def test_a_file_without_an_extension_gets_that_of_its_type(mime: str, name: str) -> None:
    part = {"type": "file", "name": "x", "mime": mime, "data": "eA=="}
    assert run(Answers(part)).startswith(f"[{name}: {mime}, 1 bytes;")


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
    tools = make_tools(SERVER, offer(bad, ECHO), Answers())
    assert [tool.name for tool in tools] == ["odd.bad", "odd.echo"]
    assert tools[0].to_spec()["function"]["parameters"]["type"] == "object"
    tools[0].find_fault({"a": 1})
    assert "the arguments of tool odd.bad are not fully checked" in caplog.text


def test_a_tool_that_is_none_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    tools = make_tools(SERVER, offer({"name": 7}, {}, ECHO), Answers())
    assert [tool.name for tool in tools] == ["odd.echo"]
    assert "MCP server odd: skipped tool 7" in caplog.text


def test_names_that_become_the_same_stay_two_tools() -> None:
    names = [{**ECHO, "name": name} for name in ("list/things", "list things", "list_things")]
    tools = make_tools(SERVER, offer(*names), Answers())
    assert len({tool.name for tool in tools}) == 3
    assert tools[0].name == "odd.list_things"


def test_a_name_has_the_characters_and_length_it_may_have() -> None:
    assert name_tool("odd", "read file/all") == "odd.read_file_all"
    one, other = name_tool("odd", "x" * 200), name_tool("odd", "x" * 201)
    assert len(one) == 128
    assert one != other


def test_allow_and_deny_take_the_public_names() -> None:
    tools = make_tools(SERVER, offer(ECHO, {**ECHO, "name": "wait"}), Answers())
    box = Toolbox([*tools, replace(tools[0], name="other")], allow=("odd.*",), deny=("*.wait",))
    assert [one["function"]["name"] for one in box.to_specs()] == ["odd.echo"]


def resource(uri: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"uri": uri, "name": name, "description": "", **more}


def call(tools: Sequence[Tool], name: str, arguments: str) -> str:
    context = ToolContext("alice", "s", "default", Cancellation())
    return Toolbox(tools).run(name, arguments, context)


def test_a_server_with_resources_has_a_tool_that_reads_them() -> None:
    answers = Answers(text("the words"))
    known = [resource("a:1", "One"), resource("a:{x}", "Any", template=True)]
    (tool,) = make_tools(SERVER, offer(resources=known), answers)
    spec = tool.to_spec()["function"]
    assert spec["name"] == "odd.read_resource"
    assert spec["description"] == (
        "Read a resource of odd by its URI.\na:1 One\na:{x} (template) Any"
    )
    assert call([tool], "odd.read_resource", '{"uri": "a:1"}') == "the words"
    assert answers.calls == [{"uri": "a:1"}]


def test_many_resources_have_a_tool_that_lists_them() -> None:
    known = [resource(f"a:{at}", f"note {at}") for at in range(500)]
    tools = make_tools(SERVER, offer(resources=known), Answers())
    read, listing = tools
    assert "odd.list_resources lists all 500" in read.to_spec()["function"]["description"]
    assert len(read.to_spec()["function"]["description"]) < 1000
    assert call(tools, listing.name, "{}").count("\n") == 499
    assert call(tools, listing.name, '{"containing": "NOTE 49"}').split("\n")[0] == "a:49 note 49"


def test_a_servers_own_tool_of_that_name_stays() -> None:
    own = {**ECHO, "name": "read_resource"}
    tools = make_tools(SERVER, offer(own, resources=[resource("a:1")]), Answers())
    assert [one.name for one in tools] == ["odd.read_resource", "odd.read_resource_by_uri"]
    assert tools[0].description == ECHO["description"]


def prompt(*names: str, **more: Any) -> dict[str, Any]:
    arguments = [
        {"name": one.strip("?"), "description": "", "required": "?" not in one} for one in names
    ]
    return {"name": "Code Review", "description": "Look at code.", "arguments": arguments, **more}


@pytest.mark.parametrize(
    ("names", "written", "read", "missing"),
    [
        (["text"], "all of this", {"text": "all of this"}, []),
        (["a", "b?"], "one", {"a": "one"}, []),
        (["a", "b?"], "one two three", {"a": "one", "b": "two three"}, []),
        (["a", "b"], "b=1 rest of it", {"a": "rest of it", "b": "1"}, []),
        (["a"], '"two words"', {"a": "two words"}, []),
        (["a"], "it's mine", {"a": "it's mine"}, []),
        (["a"], "x=y", {"a": "x=y"}, []),
        (["a", "b"], "", {}, ["a", "b"]),
        ([], "whatever", {}, []),
    ],
)
def test_the_arguments_of_a_prompt_are_words_or_named(
    names: list[str], written: str, read: dict[str, str], missing: list[str]
) -> None:
    assert read_arguments(written, prompt(*names)["arguments"]) == (read, missing)


@pytest.mark.timeout(60)
def test_a_long_argument_of_a_prompt_takes_linear_time() -> None:
    text = "x" * 1_999_990
    assert read_arguments(text, prompt("text")["arguments"]) == ({"text": text}, [])


def test_a_prompt_is_filled_in_for_the_model() -> None:
    said = [
        {**text("Look at this."), "role": "user"},
        {**picture(), "role": "user"},
        {**text("I see."), "role": "assistant"},
    ]
    answers = Answers(*said)
    (made,) = make_prompts(SERVER, [prompt("text", "style?")], answers)
    assert (made.name, made.help) == ("odd.code_review", "Look at code. text [style]")
    assert made.fill("text=x style=y", Cancellation()) == (
        "User: Look at this.\n\nUser: [image: image/png, not shown]\n\nAssistant: I see."
    )
    assert answers.calls == [{"prompt": "Code Review", "arguments": {"text": "x", "style": "y"}}]
    answers.answer["content"] = said[:1]
    assert made.fill("x", Cancellation()) == "Look at this."
    with pytest.raises(ToolError, match=r"Missing: text\. Usage: /odd\.code_review text \[style\]"):
        made.fill("", Cancellation())
