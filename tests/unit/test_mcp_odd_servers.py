"""Servers that violate the specification do not affect others."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed: make test")

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.toolbox import Toolbox
from astrbot_api.agent.tools import ToolContext
from astrbot_api.config.mcp import McpServerConfig
from astrbot_api.mcp.sidecar import content, listing
from astrbot_api.mcp.sidecar.calling import CallFailed
from astrbot_api.mcp.sidecar.session import ServerSession
from astrbot_api.mcp.tools import make_tools

from ..mcp_servers.running import RAW
from ..waiting import LIMIT_S

Use = Callable[["Started"], Awaitable[Any]]

OBJECT = {"type": "object"}


async def report(progress: Any) -> None:
    """No request of this module makes progress."""
    raise AssertionError(progress)


class Started:
    """A session with a scripted server."""

    def __init__(self, script: dict[str, Any]) -> None:
        command = [sys.executable, "-S", RAW, json.dumps(script)]
        definition = {"name": "odd", "command": command, "env": {}, "cwd": ""}
        self._changed = asyncio.Event()
        self.session = ServerSession(definition, self._changed.set)

    async def wait(self, holds: Callable[[ServerSession], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds(self.session):
                await self._changed.wait()
                self._changed.clear()

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, list[dict[str, Any]]]:
        request = {"tool": tool, "arguments": arguments}
        return await asyncio.wait_for(self.session.execute(request, report), LIMIT_S)


def use(script: dict[str, Any], job: Use) -> Any:
    """Run a server and use it."""

    async def scenario() -> Any:
        started = Started(script)
        try:
            await started.wait(lambda session: session.status == "running")
            return await job(started)
        finally:
            await started.session.stop()

    return asyncio.run(scenario())


def names(session: ServerSession) -> list[str]:
    return [one["name"] for one in session.offers["tools"]]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


PNG = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
WAV = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}

RESULTS: dict[str, tuple[Any, bool, list[str]]] = {
    "structured only": ({"structuredContent": {"a": [1, 2]}}, False, ['{"a": [1, 2]}']),
    "structured beside nothing": (
        {"content": [], "structuredContent": {"a": 1}}, False, ['{"a": 1}'],
    ),
    "structured and null": ({"content": None, "structuredContent": [1]}, False, ["[1]"]),
    "an error": ({"content": [text("no")], "isError": True}, True, ["no"]),
    "an error in words": ({"content": [text("no")], "isError": "true"}, True, ["no"]),
    "an error without words": ({"isError": True}, True, []),
    "null for no error": ({"content": [text("yes")], "isError": None}, False, ["yes"]),
    "a text for content": ({"content": "just words"}, False, ["just words"]),
    "one part for content": ({"content": text("alone")}, False, ["alone"]),
    "texts for parts": ({"content": ["a", "b"]}, False, ["a", "b"]),
    "an unknown part": (
        {"content": [{"type": "video", "x": 1}]}, False, ['{"type":"video","x":1}'],
    ),
    "a part without type": ({"content": [{"text": "bare"}]}, False, ["bare"]),
    "bad annotations": (
        {"content": [{**text("x"), "annotations": {"priority": 7}}]}, False, ["x"],
    ),
    "pictures and sound": (
        {"content": [text("see"), PNG, WAV]}, False, ["see", "image/png", "audio/wav"],
    ),
    "a picture without kind": (
        {"content": [text("see"), {"type": "image", "data": "AAAA"}]}, False,
        ["see", "image/png"],
    ),
    "a resource": (
        {"content": [{"type": "resource", "resource": {"uri": "a:b", "text": "words"}}]}, False,
        ["words"],
    ),
    "a blob": (
        {"content": [{"type": "resource", "resource": {"uri": "a:b", "blob": "AAAA"}}]}, False,
        ["application/octet-stream"],
    ),
    "a link": (
        {"content": [{"type": "resource_link", "uri": "a:b", "name": "n"}]}, False,
        ["[link: n a:b]"],
    ),
    "the oldest form": ({"toolResult": "words"}, False, ["words"]),
    "only a text": ("words", False, ["words"]),
    "only parts": ([text("a"), "b"], False, ["a", "b"]),
    "null": (None, False, []),
}  # fmt: skip


def test_odd_results_are_read() -> None:
    tools = [{"name": name, "inputSchema": OBJECT, "outputSchema": OBJECT} for name in RESULTS]
    script = {"tools": tools, "results": {name: one[0] for name, one in RESULTS.items()}}

    async def call_all(started: Started) -> None:
        for name, (_, is_error, shown) in RESULTS.items():
            failed, parts = await started.call(name)
            found = [one.get("text") or one["mime"] for one in parts]
            assert (failed, found) == (is_error, shown), name

    use(script, call_all)


SCHEMAS: dict[str, Any] = {
    "recursive": {
        "type": "object", "properties": {"node": {"$ref": "#/$defs/Node"}},
        "$defs": {"Node": {"type": "object", "properties": {
            "next": {"$ref": "#/$defs/Node"}, "name": {"type": "string"}}}},
    },
    "recursive root": {"type": "object", "properties": {"child": {"$ref": "#"}}},
    "defs only": {"$defs": {"A": {"type": "string"}}},
    "mixed enum": {"type": "object", "properties": {"a": {"enum": [1, "x", None, True, 1.5]}}},
    "const": {"type": "object", "properties": {"a": {"const": "x"}, "b": {"const": None}}},
    "any": {"type": "object", "properties": {"a": {"type": "any"}, "b": {"type": "file"}}},
    "dots.and/slashes": {"type": "object", "properties": {"a.b": {}, "ключ": {}, "x" * 200: {}}},
    "имя-инструмента": {},
    "n" * 200: {"type": "object"},
    "circle": {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
    "missing ref": {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
    "foreign ref": {"type": "object", "properties": {"a": {"$ref": "https://example.org/x"}}},
    "tuple": {"type": "object", "properties": {"a": {"type": "array", "items": [{}, {}]}}},
    "prefix": {"type": "object", "properties": {"a": {"prefixItems": [{"type": "string"}]}}},
    "draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#", "id": "x", "type": "object",
        "properties": {"a": {"type": "number", "minimum": 0, "exclusiveMinimum": True}},
    },
    "bad pattern": {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<x"}}},
    "all at the root": {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]},
    "not a schema": "object",
    "wrong keywords": {"$schema": 4, "properties": [1], "required": "a"},
    "wrong properties": {"properties": {"a": 7, "b": None}, "required": [3]},
    "null keywords": {"type": None, "properties": None, "required": None},
    "required by itself": {"type": "object", "properties": {"a": {"required": True}}},
    "deep": None,
}  # fmt: skip
deep: Any = {"type": "string"}
for _ in range(100):
    deep = {"type": "object", "properties": {"a": deep}}
SCHEMAS["deep"] = deep


def test_results_without_the_fields_of_the_newest_version_are_read() -> None:
    """The specification: a client treats an absent ``resultType`` as ``complete``."""
    script = {
        "server/discover": {
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
        },
        "resources": [{"uri": "odd://1", "name": "one"}],
        "prompts": [{"name": "greet"}],
        "read": {"contents": [{"uri": "odd://1", "text": "first"}], "ttlMs": -1},
        "prompt": {"messages": [{"role": "user", "content": text("Hi")}]},
    }

    async def job(started: Started) -> Any:
        offers = started.session.offers
        assert [len(offers[key]) for key in ("resources", "prompts")] == [1, 1]
        request = {"prompt": "greet", "arguments": {}}
        return (
            await started.call("echo", text="x"),
            await started.session.execute({"uri": "odd://1"}, report),
            await started.session.execute(request, report),
        )

    called, read, prompt = use(script, job)
    assert called == (False, [text("x")])
    assert read == (False, [text("first")])
    assert prompt[1]


def test_odd_schemas_and_names_are_offered_and_called() -> None:
    tools = [{"name": name, "inputSchema": schema} for name, schema in SCHEMAS.items()]
    results = {name: {"content": [text(f"result of {at}")]} for at, name in enumerate(SCHEMAS)}

    async def take(started: Started) -> Any:
        called = [(await started.call(one))[1][0]["text"] for one in SCHEMAS]
        assert called == [f"result of {at}" for at in range(len(SCHEMAS))]
        return started.session.offers

    offers = use({"tools": tools, "results": results, "page": 3}, take)
    assert [one["name"] for one in offers["tools"]] == list(SCHEMAS)

    def answer(request: Any, cancel: Any, report: Any) -> dict[str, Any]:
        return {"content": [text(f"called {request['tool']}")], "is_error": False}

    box = Toolbox(make_tools(McpServerConfig("odd"), offers, answer))
    specs = [one["function"] for one in box.to_specs()]
    assert len({one["name"] for one in specs}) == len(SCHEMAS)
    assert all(one["parameters"]["type"] == "object" for one in specs)
    assert "$ref" not in json.dumps(specs)
    context = ToolContext("alice", "s", "default", Cancellation())
    said = [box.run(one["name"], "{}", context) for one in specs]
    expected = [f"called {name}" for name in SCHEMAS]
    # Draft 3 of JSON Schema is supported.
    missing = "error: bad arguments: 'a' is a required property"
    expected[list(SCHEMAS).index("required by itself")] = missing
    assert said == expected


def test_a_list_is_read_page_by_page_and_not_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = [{"name": f"t{at}", "inputSchema": OBJECT} for at in range(250)]

    async def take(started: Started) -> list[str]:
        return names(started.session)

    assert use({"tools": tools, "page": 20}, take) == [f"t{at}" for at in range(250)]
    monkeypatch.setattr(listing, "_MAX_PAGES", 2)
    assert len(use({"tools": tools, "page": 20}, take)) == 40


def test_no_page_is_read_after_the_list_is_too_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(content, "MAX_LIST_CHARS", 1000)
    tools = [{"name": f"t{at}", "inputSchema": OBJECT} for at in range(250)]

    async def take(started: Started) -> list[str]:
        return names(started.session)

    kept = use({"tools": tools, "page": 20}, take)
    assert kept == [f"t{at}" for at in range(len(kept))]
    assert len(kept) < 20
    assert caplog.text.count("skipped tool") == 1


def test_odd_entries_of_other_lists_cost_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    script = {
        "resources": [
            {"uri": "a:1", "name": "one", "size": "many"},
            {"uri": "a:2"},
            {"name": "x"},
            7,
        ],
        "resourceTemplates": [
            {"uriTemplate": "a:{x}", "name": "t", "mimeType": 3},
            {"uri_template": "a:{y}", "name": "u"},
        ],
        "prompts": [{"name": "p", "arguments": "none"}, {"arguments": []}, {"name": "q"}],
    }

    async def take(started: Started) -> Any:
        return started.session.offers

    offers = use(script, take)
    assert [one["uri"] for one in offers["resources"]] == ["a:1", "a:2", "a:{x}"]
    assert [one["name"] for one in offers["prompts"]] == ["p", "q"]
    assert "skipped an invalid entry of its resources" in caplog.text


def test_huge_entries_of_other_lists_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    arguments = [{"name": f"a{at}", "description": "x" * 1000} for at in range(70)]
    script = {
        "prompts": [{"name": "huge", "arguments": arguments}, {"name": "p"}],
        "tools": [{"name": "t", "inputSchema": OBJECT}],
    }

    async def take(started: Started) -> Any:
        return started.session.offers

    offers = use(script, take)
    assert [one["name"] for one in offers["prompts"]] == ["p"]
    assert [one["name"] for one in offers["tools"]] == ["t"]
    assert "skipped prompt 'huge': its description is too large" in caplog.text


def test_odd_prompts_and_resources_are_read() -> None:
    script = {
        "prompts": [{"name": "p"}],
        "prompt": {"messages": [{"role": "system", "content": "a"}, {"content": text("b")}, 5]},
        "resources": [{"uri": "a:1", "name": "one"}],
        "read": {"contents": [{"uri": "a:1", "text": "x"}, {"uri": "a:1", "blob": "AAAA"}]},
    }

    async def ask(started: Started) -> None:
        _, said = await started.session.execute({"prompt": "p", "arguments": {}}, report)
        assert said == [{**text("a"), "role": "user"}, {**text("b"), "role": "user"}]
        _, read = await started.session.execute({"uri": "a:1"}, report)
        assert [one["type"] for one in read] == ["text", "file"]

    use(script, ask)


@pytest.mark.parametrize("method", ["elicitation/create", "sampling/createMessage", "roots/list"])
def test_a_question_of_an_older_server_is_refused_and_named(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(started: Started) -> Any:
        return await started.call("ask", method=method)

    failed, parts = use({}, ask)
    assert failed
    assert json.loads(parts[0]["text"])["code"] < 0
    assert "asks for input in the middle of a call" in parts[-1]["text"]
    assert f"MCP server odd requests {method}, which is not supported" in caplog.text


def test_a_server_that_requires_an_unsupported_capability_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = types.MISSING_REQUIRED_CLIENT_CAPABILITY

    async def ask(started: Started) -> None:
        with pytest.raises(CallFailed, match=r"refused: sorry \(.* asks for input in the middle"):
            await started.call("ask")

    use({"results": {"ask": {"error": {"code": code, "message": "sorry"}}}}, ask)
    assert "MCP server odd requests a capability of clients, which is not " in caplog.text


def test_what_a_server_prints_beside_its_messages_is_skipped() -> None:
    async def call(started: Started) -> Any:
        return await started.call("noise")

    first = "Welcome to the server!\n\x1b[32mready\x1b[0m\n"
    assert use({"first": first}, call) == (False, [text("after the noise")])


def test_a_server_that_dies_in_mid_call_comes_back() -> None:
    async def call(started: Started) -> None:
        with pytest.raises(CallFailed, match="ended during the call"):
            await started.call("die")
        await started.wait(lambda session: session.status != "running")
        await started.wait(lambda session: session.status == "running")
        assert await started.call("echo", text="back") == (False, [text("back")])

    use({}, call)


def test_an_error_with_the_code_of_a_lost_connection_does_not_end_the_session() -> None:
    error = {"code": -32000, "message": "rate limited"}

    async def call(started: Started) -> None:
        with pytest.raises(CallFailed, match="refused: rate limited"):
            await started.call("limited")
        assert not (await started.call("echo", text="x"))[0]

    use({"results": {"limited": {"error": error}}}, call)


@pytest.mark.parametrize(
    "error", ["rate limited", {"message": "rate limited"}, {"code": "429", "msg": "rate limited"}]
)
def test_an_error_in_another_form_fails_its_call_at_once(error: Any) -> None:
    async def call(started: Started) -> None:
        with pytest.raises(CallFailed, match=r"refused: .*rate limited"):
            await started.call("limited")

    use({"results": {"limited": {"error": error}}}, call)


def test_the_tools_of_a_server_without_capabilities_are_read() -> None:
    async def call(started: Started) -> None:
        assert "echo" in names(started.session)

    use({"capabilities": {}}, call)


def test_a_changed_list_is_read_again() -> None:
    async def call(started: Started) -> None:
        assert (await started.call("change"))[1] == [text("changed")]
        await started.wait(lambda session: names(session) == ["echo", "fresh"])
        assert await started.call("fresh") == (False, [text("fresh indeed")])

    use({}, call)


def test_a_huge_result_is_cut_and_an_endless_one_ends_the_server() -> None:
    async def call(started: Started) -> None:
        _, (cut, note) = await started.call("huge", chars=3_000_000)
        assert (len(cut["text"]), note["text"][:4]) == (512 * 1024, "[cut")
        with pytest.raises(CallFailed, match="was stopped: it wrote a line of more than 16777216"):
            await started.call("huge", chars=17 * 1024 * 1024)

    use({}, call)
