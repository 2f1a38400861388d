"""Tool calls that an endpoint left in the text of its answer are made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import Finished, ModelOptions, Rewind, TextDelta, ToolCallDelta
from astrbot_api.providers import leaked_calls
from astrbot_api.providers.safe_names import SafeNames

from ..strict_endpoint import call
from .openai_asking import provider_of
from .raw_endpoint import DONE, RawEndpoint, answering, event

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}
    for name in ("time.now", "look")
]
ARGUMENTS = {"zone": "Asia/Tokyo"}
JSON = '<tool_call>\n{"name": "time__now", "arguments": {"zone": "Asia/Tokyo"}}\n</tool_call>'
PARAMETER = '<parameter name="zone">Asia/Tokyo</parameter>'


def answer_of(text: str, *more: bytes, finish: str = "stop") -> tuple[str, list[Any], str]:
    """Return the text that stays, the calls, and the finish reason, for a text in two pieces."""
    pieces = [event({"content": one}) for one in (text[:9], text[9:])]
    with RawEndpoint(answering(*pieces, *more, event({}, finish), DONE)) as endpoint:
        asked = [{"role": "user", "content": "hi"}]
        options = ModelOptions(Cancellation())
        provider = SafeNames(provider_of(endpoint), makes_leaked=True)
        found = list(provider.stream(asked, TOOLS, options))
    shown, calls = "", []
    for one in found:
        if isinstance(one, TextDelta):
            shown += one.text
        elif isinstance(one, Rewind):
            shown = shown[: len(shown) - one.chars]
        elif isinstance(one, ToolCallDelta):
            calls.append((one.name, json.loads(one.arguments)))
    assert isinstance(found[-1], Finished)
    return shown, calls, found[-1].reason


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        JSON.replace("arguments", "parameters") + "\n",
        "<tool_call><function=time__now>\n<parameter=zone>\nAsia/Tokyo\n</parameter>\n</function>"
        "\n</tool_call>",
        "<tool_call>time__now\n<arg_key>zone</arg_key>\n<arg_value>Asia/Tokyo</arg_value>\n"
        "</tool_call>",
        f'<function_calls>\n<invoke name="time__now">{PARAMETER}</invoke>\n</function_calls>',
        f'<minimax:tool_call><invoke name="time__now">{PARAMETER}</invoke></minimax:tool_call>',
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="time__now">\n'
        '<｜DSML｜parameter name="zone" '
        'string="true">Asia/Tokyo</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
    ],
)
def test_a_call_in_the_text_is_made_and_not_shown(text: str) -> None:
    assert answer_of(f"Let me look. {text}") == (
        "Let me look. ", [("time.now", ARGUMENTS)], "tool_calls",
    )  # fmt: skip


def test_several_calls_in_the_text_are_made() -> None:
    two = f'{JSON}\n<tool_call>{{"name": "look"}}</tool_call>'
    assert answer_of(two) == ("", [("time.now", ARGUMENTS), ("look", {})], "tool_calls")


def test_the_text_of_a_call_that_is_also_a_call_is_not_shown() -> None:
    own = event({"tool_calls": [call("time__now", json.dumps(ARGUMENTS))]})
    assert answer_of(JSON, own) == ("", [("time.now", ARGUMENTS)], "tool_calls")


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{JSON}", f"`{JSON}`", f"{JSON} is how it looks.", JSON.replace("time__now", "rm"),
        "<tool_call>{\"name\": 1}</tool_call>", "<tool_call>{</tool_call>", "time__now</tool_call>",
        "<tool_call></tool_call>", "<function_calls>time__now()</function_calls>",
    ],
)  # fmt: skip
def test_other_text_with_such_tags_is_text(text: str) -> None:
    assert answer_of(text) == (text, [], "stop")


def test_a_call_that_was_cut_short_is_text() -> None:
    assert answer_of(JSON, finish="length") == (JSON, [], "length")


def test_only_the_end_of_a_long_text_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaked_calls, "_MAX_CHARS", 50)
    assert answer_of(JSON) == (JSON, [], "stop")
