"""``astrbot_api.testing``: the scripted model and its application."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api import (
    Cancellation,
    ModelMessage,
    ModelOptions,
    ProviderError,
    ReasoningDelta,
    RunCancelled,
    TextDelta,
    ToolCallDelta,
    tool,
)
from astrbot_api.testing import ScriptedModel, make_app
from astrbot_api.testing import scripted_model as scripted_model_module


def ask(model: ScriptedModel, text: str = "Hello", cancel: Cancellation | None = None) -> list[Any]:
    options = ModelOptions(cancel=cancel or Cancellation())
    return list(model.stream([{"role": "user", "content": text}], [], options))


def test_each_call_takes_the_next_script_and_the_last_one_repeats() -> None:
    model = ScriptedModel("one", [ReasoningDelta("hm"), "two"])
    assert [ask(model) for _ in range(3)] == [
        [TextDelta("one")],
        [ReasoningDelta("hm"), TextDelta("two")],
        [ReasoningDelta("hm"), TextDelta("two")],
    ]


def test_a_function_is_given_the_messages() -> None:
    def echo(messages: list[ModelMessage]) -> Iterator[str]:
        yield messages[-1]["content"]

    model = ScriptedModel(echo)
    assert ask(model, "tea") == [TextDelta("tea")]
    assert model.seen == [[{"role": "user", "content": "tea"}]]


def test_an_exception_is_raised_after_what_was_said() -> None:
    answer = ScriptedModel(["half", ProviderError("gone")]).stream(
        [], [], ModelOptions(cancel=Cancellation())
    )
    assert next(answer) == TextDelta("half")
    with pytest.raises(ProviderError, match="gone"):
        next(answer)


def test_an_event_holds_the_answer() -> None:
    class SetWhenAwaited(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return super().wait(timeout)

    go_on = SetWhenAwaited()

    def answer(messages: list[ModelMessage]) -> Iterator[str | threading.Event]:
        yield go_on
        yield f"set: {go_on.is_set()}"

    assert ask(ScriptedModel(answer)) == [TextDelta("set: True")]


def test_a_held_answer_ends_when_the_turn_is_stopped() -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        ask(ScriptedModel([threading.Event(), "never"]), cancel=cancel)


def test_an_event_that_nobody_sets_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted_model_module, "_LIMIT_S", 0.02)
    with pytest.raises(TimeoutError, match="did not set the event"):
        ask(ScriptedModel([threading.Event()]))


def test_an_application_has_turns_with_tools() -> None:
    @tool
    def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    model = ScriptedModel([ToolCallDelta(0, "c", "double", '{"number": 4}')], "It is 8.")
    with make_app(model, tools=[double], find_plugins=False) as app:
        events = app.chat("Twice four?")
        folder = Path(app.state.settings.data_dir)
        assert folder.is_dir()
    assert next(one["data"] for one in events if one["type"] == "complete") == "It is 8."
    assert "double" in model.offered[0]
    assert model.seen[1][-1]["content"] == "8"
    assert not folder.exists()


def test_a_data_directory_of_the_tests_own_keeps_its_config(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    config = '[provider]\nid = "scripted"\ntype = "mock"\n[agent]\nsystem_prompt = "Be brief."\n'
    (tmp_path / "configs" / "default.toml").write_text(config)
    with make_app("Yes.", data_dir=tmp_path) as app:
        app.chat("Well?")
    assert app.model.seen[0][0] == {"role": "system", "content": "Be brief."}
    assert (tmp_path / "astrbot.db").exists()


def test_an_error_is_raised_with_what_the_server_answered() -> None:
    with make_app() as app, pytest.raises(AssertionError, match="config_id"):
        app.chat("Hello", config_id="none")
