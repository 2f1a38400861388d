"""Tools of a turn: permissions, and calls that never return."""

from __future__ import annotations

import json
import logging
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from astrbot_api import Cancellation, RunCancelled, Tool, ToolContext, ToolError, tool
from astrbot_api.agent import abandonable, checking
from astrbot_api.agent.abandonable import AbandonableCalls
from astrbot_api.agent.toolbox import Toolbox

from ..waiting import wait_for


def context(cancel: Cancellation | None = None) -> ToolContext:
    return ToolContext("alice", "s", "default", cancel or Cancellation())


def make(name: str, call: Any = lambda arguments, context: "ok", **options: Any) -> Tool:
    return Tool(name, "Do it.", call, **options)


def names(box: Toolbox) -> list[str]:
    return [one["function"]["name"] for one in box.to_specs()]


def test_deny_wins_over_allow_and_the_key_must_allow_too() -> None:
    tools = [make("a.one"), make("a.two"), make("b")]
    assert names(Toolbox(tools, allow=["a.*"], deny=["*.two"])) == ["a.one"]
    assert names(Toolbox(tools, key_allow=["b", "a.two"])) == ["a.two", "b"]
    assert names(Toolbox(tools, allow=["a.*"], key_allow=["b"])) == []


def test_a_tool_that_reaches_out_must_be_allowed_by_its_whole_name() -> None:
    tools = [make("http_get", by_name_only=True)]
    assert names(Toolbox(tools, allow=["*"])) == []
    assert names(Toolbox(tools, allow=["http*"])) == []
    assert names(Toolbox(tools, allow=["http_get"])) == ["http_get"]
    assert names(Toolbox(tools, allow=["http_get"], deny=["http_get"])) == []


def test_of_two_tools_with_one_name_the_first_is_taken() -> None:
    first, second = make("x", lambda a, c: "first"), make("x", lambda a, c: "second")
    box = Toolbox([first, second])
    assert names(box) == ["x"]
    assert box.run("x", "", context()) == "first"


def test_a_tool_that_is_not_offered_cannot_be_called() -> None:
    box = Toolbox([make("a"), make("b")], deny=["b"])
    assert box.run("b", "{}", context()) == "error: there is no tool named b; the tools are: a"


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("text", "text"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ({1: True}, '{"1":true}'),
        (None, "null"),
        ("half \ud800", "half ?"),
        ({"half": "\ud800"}, '{"half": "?"}'),
        ({"sum": 2**70}, '{"sum": 1180591620717411303424}'),
        ([{3}, Decimal("1.50"), Path("/srv/é")], '[[3],"1.50","/srv/é"]'),
        ([2**70, {3}, Path("/srv/é")], '[1180591620717411303424, [3], "/srv/é"]'),
        (object(), "error: the tool t failed: TypeError"),
    ],
)
def test_a_result_becomes_text(result: Any, told: str) -> None:
    assert Toolbox([make("t", lambda a, c: result)]).run("t", "", context()) == told


def test_lists_in_a_text_are_read_within_limits() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array"}}}
    box = Toolbox([Tool("count", "d", lambda values, _: len(values["a"]), schema)])
    assert box.run("count", '{"a": "[1, 2]"}', context()) == "2"
    for text in ("[" * 300 + "]" * 300, "[" + "1," * 60_000 + "1]"):
        result = box.run("count", json.dumps({"a": text}), context())
        assert result.startswith("error: bad arguments: a: ")


@pytest.mark.parametrize("value", [f"[{'0,' * 50_000}0]", f"{'[' * 101}{']' * 101}"])
def test_arguments_beyond_the_limits_are_refused(value: str) -> None:
    result = Toolbox([make("a")]).run("a", f'{{"a": {value}}}', context())
    assert result == "error: the arguments are not a JSON object"


def test_a_huge_result_is_cut() -> None:
    box = Toolbox([make("t", lambda a, c: "x" * 1000)], max_chars=100)
    assert box.run("t", "", context()) == "x" * 100 + "\n[cut: the result has 1000 characters]"


def test_what_a_tool_says_is_wrong_is_reported_and_what_it_lets_slip_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(arguments: Any, context: Any) -> str:
        raise ToolError("the city is unknown")

    def slip(arguments: Any, context: Any) -> str:
        raise KeyError("password=hunter2")

    box = Toolbox([make("refuse", refuse), make("slip", slip)])
    assert box.run("refuse", "", context()) == "error: the city is unknown"
    assert box.run("slip", "", context()) == "error: the tool slip failed: KeyError"
    assert "hunter2" in caplog.text


def test_sending_a_file_where_nobody_takes_it_is_a_clear_error() -> None:
    @tool
    def draw(context: ToolContext) -> str:
        """Draw."""
        return context.send_file(b"...", "picture.png")

    assert Toolbox([draw]).run("draw", "", context()) == "error: files cannot be sent here"


def test_a_tools_schema_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool
    def add(a: int) -> str:
        """Add."""
        return str(a)

    monkeypatch.setattr(checking, "_make_validator", None)
    box = Toolbox([add])
    assert box.run("add", '{"a": 1}', context()) == "1"
    assert "is not of type 'integer'" in box.run("add", '{"a": "x"}', context())


def test_a_stopped_turn_reaches_the_running_tool() -> None:
    cancel, begun, told = Cancellation(), threading.Event(), threading.Event()

    def wait(arguments: Any, context: ToolContext) -> str:
        begun.set()
        if context.cancel.wait(30):
            told.set()
        return "late"

    box = Toolbox([make("wait", wait)])
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            box.run("wait", "", context(cancel))
        except RunCancelled as error:
            outcome.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    assert begun.wait(30)
    cancel.cancel()
    worker.join(30)
    assert [str(error) for error in outcome] == ["stopped"]
    assert told.wait(30)


def test_a_tool_whose_time_is_up_is_reported_and_the_turn_is_not_stopped() -> None:
    told = threading.Event()

    def wait(arguments: Any, context: ToolContext) -> str:
        if context.cancel.wait(30):
            told.set()
        return "late"

    turn = Cancellation()
    box = Toolbox([make("wait", wait, timeout_s=0.05)], timeout_s=60)
    expected = "error: the tool wait did not answer within 0.05 s"
    assert box.run("wait", "", context(turn)) == expected
    assert told.wait(30)
    assert not turn.cancelled


def test_calls_that_never_return_do_not_pile_up_without_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release, returned = threading.Event(), threading.Semaphore(0)
    calls: list[int] = []

    def hang(arguments: Any, context: Any) -> str:
        calls.append(1)
        release.wait(60)
        returned.release()
        return "late"

    monkeypatch.setattr(abandonable, "_MAX_ABANDONED", 3)
    asides = AbandonableCalls()
    tools = [make("hang", hang, timeout_s=0.01), make("fine")]
    # A new toolbox each time, as in each turn.
    told = [Toolbox(tools, asides=asides).run("hang", "", context()) for _ in range(5)]
    assert len(calls) == 3
    assert told[4] == ("error: the tool hang is disabled: 3 earlier calls have not returned")
    assert Toolbox(tools, asides=asides).run("fine", "", context()) == "ok"
    release.set()
    for _ in range(3):
        assert returned.acquire(timeout=30)

    def answers() -> bool:
        quick = [make("hang", lambda a, c: "well again")]
        return Toolbox(quick, asides=asides).run("hang", "", context()) == "well again"

    assert wait_for(answers)


def test_what_fails_after_it_was_given_up_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def fail(arguments: Any, context: Any) -> str:
        release.wait(30)
        raise RuntimeError("too late")

    with caplog.at_level(logging.WARNING):
        Toolbox([make("slow", fail, timeout_s=0.01)]).run("slow", "", context())
        release.set()
        wait_for(lambda: "the tool slow failed after it was abandoned" in caplog.text)
