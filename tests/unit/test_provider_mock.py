"""The mock model follows the words of the message, as documented."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import (
    Delta,
    Finished,
    ModelOptions,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from astrbot_api.errors import ProviderError, RunCancelled
from astrbot_api.providers.mock import MockProvider, parse_script

from .openai_asking import ImpatientCancellation

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("first", "second")]


def ask(
    message: Any,
    *after: dict[str, Any],
    tools: list[dict[str, Any]] | None = None,
    cancel: Cancellation | None = None,
    provider: MockProvider | None = None,
) -> list[Delta]:
    provider = provider or MockProvider()
    messages = [{"role": "user", "content": message}, *after]
    options = ModelOptions(cancel or ImpatientCancellation())
    return list(provider.stream(messages, tools or [], options))


def texts(deltas: list[Delta]) -> list[str]:
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)]


def test_message_without_words_gets_hello_in_four_tokens() -> None:
    deltas = ask("good morning")
    assert texts(deltas) == ["Hello", " from", " mock", "."]
    assert deltas[-1] == Usage(input_other=10, output=4)


def test_it_answers_with_the_requested_text() -> None:
    assert "".join(texts(ask('Please SAY={"city":"Oslo"} now'))) == '{"city":"Oslo"}'


def test_echo_repeats_the_message() -> None:
    assert texts(ask("ECHO ünï")) == ["echo: ", "ECHO ünï"]


def test_count_sets_the_tokens() -> None:
    assert texts(ask("N=3")) == ["tok0", " tok1", " tok2"]


def test_long_is_one_token_of_4000_characters() -> None:
    assert texts(ask("LONG")) == ["x" * 4000]


def test_think_reasons_before_it_answers() -> None:
    deltas = ask("THINK please")
    assert deltas[:3] == [ReasoningDelta(t) for t in ("Let me", " think", " about it.")]
    assert texts(deltas) == ["Hello", " from", " mock", "."]


@pytest.mark.parametrize(
    ("message", "name", "arguments"),
    [
        ("TOOL", "first", "{}"),
        ("TOOL=second", "second", "{}"),
        ("TOOL=unknown", "first", "{}"),
        ('TOOL=second TOOLARGS={"a":1}', "second", '{"a":1}'),
    ],
)
def test_tool_calls_a_tool_in_place_of_an_answer(message: str, name: str, arguments: str) -> None:
    deltas = ask(message, tools=TOOLS)
    assert deltas[:-1] == [
        ToolCallDelta(0, "call_mock_1", name, ""),
        ToolCallDelta(0, "", "", arguments),
    ]


@pytest.mark.parametrize("offered", ["time.now", "time__now"])
@pytest.mark.parametrize("asked", ["time.now", "time__now"])
def test_tool_is_found_by_its_public_name_and_by_its_name_at_endpoints(
    offered: str, asked: str
) -> None:
    tools = [*TOOLS, {"type": "function", "function": {"name": offered}}]
    assert ask(f"TOOL={asked}", tools=tools)[0] == ToolCallDelta(0, "call_mock_1", offered, "")


def test_tool_result_is_reported() -> None:
    result = {"role": "tool", "tool_call_id": "call_mock_1", "content": "r" * 100}
    assert texts(ask("TOOL", result, tools=TOOLS)) == ["tool", " said: ", "r" * 60]


def test_tool_without_tools_on_offer_is_ignored() -> None:
    assert texts(ask("TOOL")) == ["Hello", " from", " mock", "."]


@pytest.mark.parametrize(
    ("message", "waits"),
    [
        ("SLOW", [0.2] * 20),
        ("DELAY=50 N=2", [0.05, 0.05]),
        ("SLOW DELAY=1", [0.001] * 20),
        ("FIRST=700", [0.7]),
        ("DELAY=soon", []),
    ],
)
def test_pauses_are_as_long_as_the_words_say(message: str, waits: list[float]) -> None:
    cancel = ImpatientCancellation()
    ask(message, cancel=cancel)
    assert cancel.waits == waits


def test_empty_answer_is_a_failure() -> None:
    with pytest.raises(ProviderError, match=r"answered nothing\.$"):
        ask("EMPTY")


def test_drop_breaks_off_after_its_tokens() -> None:
    stream = MockProvider().stream(
        [{"role": "user", "content": "DROP=2"}], [], ModelOptions(Cancellation())
    )
    assert [next(stream), next(stream)] == [TextDelta("Hello"), TextDelta(" from")]
    with pytest.raises(ProviderError, match=r"broke off the answer\.$"):
        next(stream)


def test_fail_fails_each_time() -> None:
    provider = MockProvider()
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"rate limited \(HTTP 429\)"):
            ask("FAIL=429", provider=provider)


def test_failonce_fails_only_the_first_time_for_its_message() -> None:
    provider = MockProvider()
    with pytest.raises(ProviderError, match="HTTP 500"):
        ask("FAILONCE=500", provider=provider)
    assert texts(ask("FAILONCE=500", provider=provider))
    with pytest.raises(ProviderError, match="HTTP 500"):
        ask("FAILONCE=500 again", provider=provider)


def test_only_the_last_user_message_counts() -> None:
    assert texts(ask("ECHO a", {"role": "user", "content": "N=1"})) == ["tok0"]


def test_parts_are_joined_and_reminders_left_out() -> None:
    parts = [
        {"type": "text", "text": "ECHO a"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": " <system_reminder>N=9</system_reminder>"},
        {"type": "text", "text": "b"},
    ]
    assert texts(ask(parts)) == ["echo: ", "ECHO a\nb"]


def test_cancelled_run_ends_in_the_middle_of_a_pause() -> None:
    cancel = Cancellation()
    outcome: list[str] = []

    def run() -> None:
        try:
            ask("FIRST=600000", cancel=cancel)
        except RunCancelled as error:
            outcome.append(error.reason)

    thread = threading.Thread(target=run)
    thread.start()
    cancel.cancel("interrupted")
    thread.join(30)
    assert outcome == ["interrupted"]


def test_script_is_the_same_for_the_same_message() -> None:
    messages = [{"role": "user", "content": "THINK N=3 DELAY=5 DROP=1"}]
    assert parse_script(messages, []) == parse_script(messages, [])


def test_an_answer_has_the_requested_finish_reason() -> None:
    assert Finished("length") in ask("FINISH=length")
    assert not [one for one in ask("hi") if isinstance(one, Finished)]
