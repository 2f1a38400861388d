"""Results and descriptions of MCP tools in the sidecar's output."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed: make test")

import mcp_types as types

from astrbot_api.config.mcp import McpServerConfig
from astrbot_api.mcp.sidecar import content as mcp_content
from astrbot_api.mcp.sidecar.content import Kept, describe_tool, to_parts, to_prompt_parts
from astrbot_api.mcp.sidecar.repairing import repair_result
from astrbot_api.mcp.tools import make_tools


def parts(*blocks: Any, **more: Any) -> list[dict[str, Any]]:
    return to_parts(types.CallToolResult(content=list(blocks), **more))


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def blob(uri: str, data: str = "AAAA", mime: str | None = None) -> types.EmbeddedResource:
    resource = types.BlobResourceContents(uri=uri, blob=data, mime_type=mime)
    return types.EmbeddedResource(resource=resource)


def test_resources_are_texts_files_and_links() -> None:
    words = types.TextResourceContents(uri="file:///a.txt", text="words")
    link = types.ResourceLink(uri="https://example.org/x", name="x", title="An X")
    assert parts(types.EmbeddedResource(resource=words), blob("file:///a/b.zip?c=d"), link) == [
        text("words"),
        {"type": "file", "name": "b.zip", "mime": "application/octet-stream", "data": "AAAA"},
        text("[link: An X https://example.org/x]"),
    ]


def test_sound_is_a_file() -> None:
    sound = types.AudioContent(data="AAAA", mime_type="audio/wav")
    assert parts(sound) == [{"type": "file", "name": "audio", "mime": "audio/wav", "data": "AAAA"}]


def test_structured_content_stands_in_for_none_other() -> None:
    assert parts(structured_content={"a": "ä"}) == [text('{"a": "ä"}')]
    assert parts(types.TextContent(text="a"), structured_content={"a": 1}) == [text("a")]


def test_structured_content_stands_in_for_a_blank_text() -> None:
    blank = types.TextContent(text=" ")
    assert parts(blank, structured_content={"a": 1}) == [text('{"a": 1}')]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "data": "AAAA", "mimeType": "image/webp"},
        {"type": "image", "data": "data:image/webp;base64,AAAA", "mimeType": "image/png"},
        {"type": "image", "data": "AAAA", "mime_type": "image/webp"},
        {"type": "image", "data": "data:image/webp;base64,AAAA"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}},
        {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}},
        {"type": "input_image", "image_url": "data:image/webp;base64,AAAA"},
    ],
)
def test_a_picture_in_any_form_is_a_file(block: dict[str, Any]) -> None:
    result = {"content": [block]}
    repair_result("odd", result)
    read = types.CallToolResult.model_validate(result, by_name=False)
    assert to_parts(read) == [
        {"type": "file", "name": "image", "mime": "image/webp", "data": "AAAA"}
    ]  # fmt: skip


def test_the_address_of_a_picture_is_a_link() -> None:
    picture = types.ImageContent(data="https://example.org/a.png", mime_type="image/png")
    assert parts(picture) == [text("[link: image https://example.org/a.png]")]


def test_files_that_are_too_large_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_content, "MAX_FILES_CHARS", 10)
    first, second = parts(blob("file:///a"), blob("file:///b", "A" * 8))
    assert first["name"] == "a"
    assert second == text("[b: 6 bytes, too large]")


def test_texts_are_cut_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_content, "MAX_TEXT_CHARS", 10)
    blocks = [types.TextContent(text=one) for one in ("a" * 8, "b" * 5, "c")]
    assert parts(*blocks) == [
        text("a" * 8), text("bb"), text("[cut: the text has 5 characters]"),
    ]  # fmt: skip


def test_the_note_about_a_cut_prompt_has_the_role_of_its_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_content, "MAX_TEXT_CHARS", 10)
    said = types.PromptMessage(role="assistant", content=types.TextContent(text="a" * 20))
    first, note = to_prompt_parts(types.GetPromptResult(messages=[said]))
    assert (first["text"], note["role"]) == ("a" * 10, "assistant")
    assert note["text"] == "[cut: the text has 20 characters]"


@pytest.mark.parametrize("key", ["content", "contents", "messages"])
def test_parts_beyond_the_limit_are_not_checked(key: str) -> None:
    result: dict[str, Any] = {key: [{"role": "user", **text("a")}] * 2_000}
    repair_result("odd", result)
    assert len(result[key]) == 500


def test_tools_out_of_all_bounds_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mcp_content, "MAX_ENTRY_CHARS", 200)
    monkeypatch.setattr(mcp_content, "MAX_LIST_CHARS", 250)
    schema = {"type": "object"}
    tools = [
        types.Tool(name="plain", input_schema=schema),
        types.Tool(name="long", description="x" * 300, input_schema=schema),
        *(types.Tool(name=f"n{n}", description="x" * 50, input_schema=schema) for n in range(9)),
    ]
    kept = Kept("odd", "tool")
    kept.add(map(describe_tool, tools))
    described = kept.entries
    assert described[0] == {
        "name": "plain", "description": "plain", "parameters": schema, "hints": [],
    }  # fmt: skip
    assert [one["name"] for one in described] == ["plain", "n0"]
    assert "skipped tool 'long': its description is too large" in caplog.text
    assert "skipped tool 'n1' and all that follow: the list is too long" in caplog.text
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("hints", "reads_only", "trusted"),
    [
        (None, False, ("never", False)),
        ({"read_only_hint": True, "destructive_hint": True}, True, ("safe", False)),
        ({"idempotent_hint": True, "destructive_hint": True}, False, ("safe", True)),
        ({"idempotent_hint": False, "destructive_hint": False}, False, ("never", False)),
        ({"destructive_hint": True}, False, ("never", True)),
    ],
)
@pytest.mark.parametrize("trusts", [False, True])
def test_hints_decide_about_retries_and_approvals_if_the_config_trusts_them(
    hints: dict[str, bool] | None, reads_only: bool, trusted: tuple[str, bool], trusts: bool
) -> None:
    annotations = None if hints is None else types.ToolAnnotations(**hints)
    described = describe_tool(
        types.Tool(name="a", input_schema={"type": "object"}, annotations=annotations)
    )
    state = {"tools": [described], "resources": [], "prompts": []}
    (tool,) = make_tools(McpServerConfig("s", trust_hints=trusts), state, lambda *_: {})
    assert tool.reads_only == reads_only
    assert (tool.retry, tool.needs_approval) == (trusted if trusts else ("never", False))
