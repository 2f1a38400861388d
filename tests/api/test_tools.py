"""Built-in tools in a turn, and the tools that a model is offered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest

from astrbot_api import AskModel, Command, CommandContext, Tool, ToolContext
from astrbot_api.agent.calling import MAX_CALLS_PER_STEP
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.plugins.builtin import commands, history
from astrbot_api.testing import ScriptedModel

from .conftest import Api

Make = Callable[..., tuple[Api, ScriptedModel]]


def call_what_is_asked_for(messages: list[ModelMessage]) -> Iterator[Delta]:
    """Call the tool in the user's message with its JSON, and return the result."""
    if messages[-1]["role"] == "tool":
        yield TextDelta(messages[-1]["content"])
        return
    name, _, arguments = messages[-1]["content"].partition(" ")
    if name.isidentifier() and arguments.startswith("{"):
        yield ToolCallDelta(0, "c", name, arguments)
    else:
        yield TextDelta("fine")


def ask(api: Api, tool: str, session: str = "s", username: str = "alice", **arguments: Any) -> str:
    message = f"{tool} {orjson.dumps(arguments).decode()}"
    events = api.chat(message, session_id=session, username=username)
    return next(str(event["data"]) for event in events if event["type"] == "complete")


def offered(make_scripted: Make, lines: str = "", **options: Any) -> list[str]:
    api, model = make_scripted(
        call_what_is_asked_for, agent=f"titles = false\n[tools]\n{lines}", **options
    )
    api.chat("hello")
    return model.offered[0]


BUILT_IN = [
    "current_time", "calculate", "read_attachment", "search_history", "remember", "recall",
    "send_message_to_user",
]  # fmt: skip


def test_the_applications_own_tools_are_offered_first(make_scripted: Make) -> None:
    own = Tool("own", "Mine.", lambda arguments, context: "mine")
    assert offered(make_scripted, tools=[own]) == ["own", *BUILT_IN]


def test_calls_of_a_conversation_have_different_ids(make_scripted: Make) -> None:
    """Interfaces find a call by its id: AG-UI's client in all messages of a thread."""
    api, model = make_scripted(call_what_is_asked_for)
    assert [ask(api, "calculate", expression=one) for one in ("6*7", "6*8")] == ["42", "48"]
    calls = [one["tool_calls"][0]["id"] for one in model.seen[-1] if one.get("tool_calls")]
    results = [one["tool_call_id"] for one in model.seen[-1] if one["role"] == "tool"]
    assert calls == results
    assert len(set(calls)) == 2


def test_http_get_is_off_unless_a_config_names_it(make_scripted: Make) -> None:
    names = offered(make_scripted, 'allow = ["*", "http_get"]\ndeny = ["re*"]')
    assert names == [
        "current_time", "calculate", "search_history", "http_get", "send_message_to_user",
    ]  # fmt: skip


def test_an_applications_tool_replaces_a_built_in_tool(make_scripted: Make) -> None:
    own = Tool("calculate", "Mine.", lambda arguments, context: "mine")
    api, _ = make_scripted(call_what_is_asked_for, tools=[own])
    assert ask(api, "calculate") == "mine"


def test_calculate_answers_in_a_turn(make_scripted: Make) -> None:
    api, _ = make_scripted(call_what_is_asked_for)
    assert ask(api, "calculate", expression="6 * 7") == "42"
    assert ask(api, "calculate", expression="9**9**9").startswith("error: the result is too long")
    assert "unexpected" in ask(api, "calculate", expression="1", more=1)


def test_calls_of_a_provider_may_arrive_in_pieces(make_scripted: Make) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(" ".join(one["content"] for one in messages[-2:]))
            return
        for at in (0, 1):
            yield ToolCallDelta(at, f"c{at}", "calculate", "")
        for piece in ('{"expression"', ': "6 * ', '7"}'):
            yield ToolCallDelta(0, "", "", piece)
            yield ToolCallDelta(1, "", "", piece.replace("7", "8"))

    api, _ = make_scripted(answer)
    (whole,) = [one for one in api.chat("Hi") if one["type"] == "complete"]
    assert whole["data"] == "42 48"


@pytest.mark.parametrize(
    "arguments", ['{"expression": "1\\ud83d"}', '{"expression": "1\n", "n": 99999999999999999999}']
)
def test_arguments_that_no_event_can_contain_do_not_end_the_turn(
    make_scripted: Make, arguments: str
) -> None:
    api, _ = make_scripted(call_what_is_asked_for)
    events = api.chat(f"calculate {arguments}")
    assert not [one for one in events if one["type"] == "error"]
    complete = next(one for one in events if one["type"] == "complete")
    assert str(complete["data"]).startswith("error:")


def test_notes_are_stored_per_user_across_sessions(make_scripted: Make) -> None:
    api, _ = make_scripted(call_what_is_asked_for)
    assert ask(api, "recall") == "There are no notes."
    assert ask(api, "remember", key="birthday", value="1 May") == "Kept: birthday"
    assert ask(api, "remember", key=" name  of cat ", value="Tom") == "Kept: name of cat"
    assert ask(api, "recall", "other") == "name of cat: Tom\nbirthday: 1 May"
    assert ask(api, "recall", "other", key="birthday") == "birthday: 1 May"
    assert ask(api, "recall", "bobs", "bob") == "There are no notes."
    assert ask(api, "remember", key="birthday", value="2 May") == "Kept: birthday"
    assert ask(api, "recall", key="birthday") == "birthday: 2 May"
    assert ask(api, "remember", key="birthday", value=" ") == "Deleted: birthday"
    for name, arguments in (("recall", {}), ("remember", {"value": ""})):
        said = ask(api, name, key="birthday", **arguments)
        assert said == "There is no note named birthday."


def test_notes_have_limits(make_scripted: Make) -> None:
    api, _ = make_scripted(
        call_what_is_asked_for,
        agent="titles = false\n[plugins.notes]\nmax_notes = 2\nmax_value_chars = 5",
    )
    assert ask(api, "remember", key="a", value="12345") == "Kept: a"
    assert "at most 5 characters" in ask(api, "remember", key="b", value="123456")
    assert ask(api, "remember", key=" ", value="1") == "error: key must not be empty"
    assert ask(api, "remember", key="b", value="2") == "Kept: b"
    assert ask(api, "remember", key="c", value="3").startswith(
        "error: 2 notes are stored, the maximum"
    )
    assert ask(api, "remember", key="a", value="new") == "Kept: a"


def test_search_history_searches_only_its_session(make_scripted: Make) -> None:
    api, _ = make_scripted(call_what_is_asked_for)
    api.chat('the Eiffel tower is 100% "iron" and it_is tall', session_id="s")
    api.chat("the Eiffel tower of another", session_id="t", username="bob")
    for words in ("eiffel TOWER", '"iron"', "100%", "it_is"):
        said = ask(api, "search_history", words=words)
        assert "alice: the Eiffel tower is 100%" in said, words
        assert "another" not in said
    assert ask(api, "search_history", "fresh", words="eiffel") == "Nothing was found."
    assert ask(api, "search_history", words="1000%") == "Nothing was found."
    assert ask(api, "search_history", words="plain") == "Nothing was found."


def test_search_history_does_not_find_messages_before_a_reset(make_scripted: Make) -> None:
    api, _ = make_scripted(call_what_is_asked_for)
    api.chat("the secret is swordfish", session_id="s")
    api.chat("/reset", session_id="s")
    assert ask(api, "search_history", words="swordfish") == "Nothing was found."


def test_a_step_with_hundreds_of_calls_is_truncated(make_scripted: Make) -> None:
    calls: list[int] = []

    def count(arguments: Mapping[str, Any], context: ToolContext) -> str:
        calls.append(1)
        return "ok"

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"])
            return
        for index in range(200):
            yield ToolCallDelta(index, f"c{index}", "count", "{}")

    api, model = make_scripted(answer, tools=[Tool("count", "Count.", count)])
    events = api.chat("hello")
    assert len(calls) == MAX_CALLS_PER_STEP
    assert events[-3]["data"] == "error: at most 32 calls are allowed in one step"
    told = [one["tool_call_id"] for one in model.seen[-1] if one["role"] == "tool"]
    assert told == [f"c{index}" for index in range(200)]


def test_the_progress_of_a_call_is_streamed_but_not_stored(make_scripted: Make) -> None:
    late: list[Any] = []

    def dig(arguments: Mapping[str, Any], context: ToolContext) -> str:
        for at in range(1, 100):
            context.report_progress(at, 99, f"at {at}")
        context.report_progress(float("nan"))
        late.append(context.report_progress)
        return "done"

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            late[0](100, 99, "after the end")
            yield TextDelta("dug")
        else:
            yield ToolCallDelta(0, "c1", "dig", "{}")

    api, _ = make_scripted(answer, tools=[Tool("dig", "Dig.", dig)])
    events = api.chat("hello", session_id="s")
    kinds = [one.get("chain_type") or one["type"] for one in events]
    shown = [one for one in events if one["type"] == "tool_progress"]
    # At most once a second.
    assert [one["data"] for one in shown] == [
        {"id": "c1", "progress": 1, "total": 99, "message": "at 1"}
    ]
    assert shown[0]["message_id"] == events[-1]["message_id"]
    at = kinds.index("tool_progress")
    assert kinds[at - 1 : at + 2] == ["tool_call", "tool_progress", "tool_call_result"]


def test_a_command_may_let_the_model_answer(make_scripted: Make) -> None:
    def run(context: CommandContext) -> str | AskModel:
        return AskModel(f"Translate: {context.arguments}") if context.arguments else "Say what."

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta(f"<{messages[-1]['content']}>")

    command = Command("translate", "Translate a text.", run)
    api, model = make_scripted(answer, commands=[command])
    assert api.chat("/translate", session_id="s")[-3]["data"] == "Say what."
    assert model.seen == []
    events = api.chat("/translate hi you", session_id="s")
    assert next(one for one in events if one["type"] == "complete")["data"] == (
        "<Translate: hi you>"
    )
    # The history contains the original text, and not the first command.
    api.chat("and now", session_id="s")
    assert [one["content"] for one in model.seen[-1][-3:]] == [
        "/translate hi you", "<Translate: hi you>", "and now",
    ]  # fmt: skip


def test_the_tokens_of_all_steps_are_summed(api: Api) -> None:
    events = api.chat("TOOL=current_time")
    usage = next(one for one in events if one["type"] == "agent_stats")["data"]["token_usage"]
    # The mock counts ten per message (two, then four), four for a call, and three for its answer.
    assert usage == {"input_other": 20 + 40, "input_cached": 0, "output": 4 + 3}


def test_stats_count_the_answers_and_tokens_of_all_pages(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_STATS_PAGE", 1)
    for _ in range(2):
        api.chat("hello", session_id="stats")
    stats = "Answers: 2\nTokens in: 60 (and 0 from a cache)\nTokens out: 8"
    assert api.chat("/stats", session_id="stats")[-3]["data"] == stats
    assert api.chat("/stats", session_id="other")[-3]["data"].startswith("Answers: 0\n")


def test_search_history_finds_chinese_and_words_in_long_messages(make_scripted: Make) -> None:
    api, _ = make_scripted(call_what_is_asked_for)
    api.chat("明天去故宫博物院", session_id="s")
    api.chat('long "\\ words' + ' "\\\n' * 10_000, session_id="s")
    assert "alice: 明天去故宫博物院" in ask(api, "search_history", words="故宫")
    assert 'alice: long "\\ words' in ask(api, "search_history", words='LONG "\\')
    api.chat(f"{'before ' * 200}NEEDLE{' after' * 200}", session_id="s")
    excerpt = ask(api, "search_history", words=" needle ").partition("alice: ")[2]
    assert re.fullmatch(r"…(?=.{400}…$).{100,}before NEEDLE after.{100,}…", excerpt)
    api.chat(f"{'ß' * 900} Straße{' after' * 200}", session_id="s")
    assert " Straße after" in ask(api, "search_history", words="STRASSE")
    assert ask(api, "search_history", words="故" * 201).startswith("error: words must have at most")


def test_search_history_reads_a_bounded_number_of_characters(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_CHARS", 100_000)
    api, _ = make_scripted(call_what_is_asked_for)
    for number in range(40):
        api.chat(f"number{number} " + "a" * 30_000, session_id="s")
    assert ask(api, "search_history", words="number39").startswith("20")
    assert ask(api, "search_history", words="number0") == "Nothing was found."
