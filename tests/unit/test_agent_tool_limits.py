"""Limits of the tools in one turn, and models that repeat calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from astrbot_api import Cancellation, Tool, ToolContext
from astrbot_api.agent.loop import run_agent
from astrbot_api.agent.provider import (
    Delta,
    Finished,
    ModelMessage,
    ModelOptions,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)
from astrbot_api.agent.steps import ToolFinished
from astrbot_api.agent.toolbox import Toolbox
from astrbot_api.config.agents import ToolSettings
from astrbot_api.testing import ScriptedModel

CANCEL = Cancellation()
CONTEXT = ToolContext("alice", "s", "default", CANCEL)


def make_box(call: Any = lambda values, context: "same", **limits: Any) -> Toolbox:
    return Toolbox([Tool("look", "Look.", call)], limits=ToolSettings(**limits))


class Stubborn:
    """A model that calls the same tool whenever one is offered."""

    def __init__(self) -> None:
        self.asked: list[list[ModelMessage]] = []

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        self.asked.append(list(messages))
        if tools:
            yield ToolCallDelta(0, f"c{len(self.asked)}", "look", '{"at": "x"}')
        else:
            yield TextDelta("I give in.")


def answer(box: Toolbox) -> tuple[list[str], list[Any]]:
    """Return the results and all events of a turn with the stubborn model."""
    asked = [{"role": "user", "content": "Look."}]
    model = Stubborn()
    events = list(run_agent(model, asked, box, CONTEXT, ModelOptions(CANCEL), max_steps=50))
    return [one.result for one in events if isinstance(one, ToolFinished)], [*events, *model.asked]


def test_a_model_that_repeats_its_call_is_warned_and_then_must_answer_in_words() -> None:
    results, events = answer(make_box(max_repeats=3))
    assert results[:3] == ["same"] * 3
    assert [one.startswith("error: this call of look was made 3 times") for one in results[3:]] == [
        True,
        True,
    ]
    assert TextDelta("I give in.") in events


def test_a_call_whose_result_changes_is_no_circle() -> None:
    results = iter(range(100))
    told, _ = answer(make_box(lambda values, context: str(next(results)), max_calls=20))
    assert told == [str(number) for number in range(20)]


def test_calls_are_counted_over_the_steps_of_a_turn() -> None:
    results, events = answer(make_box(max_calls=2))
    assert results == ["same", "same"]
    assert TextDelta("I give in.") in events


def test_the_results_of_a_turn_have_room_together() -> None:
    numbers = iter(range(100))
    box = make_box(lambda values, context: f"{next(numbers):0100}", max_output_chars=250)
    results, _ = answer(box)
    assert [len(one) for one in results[:2]] == [100, 100]
    assert results[2].endswith("[cut: the tools of one turn may return no more]")
    assert len(results) == 3


def test_time_is_counted() -> None:
    done = threading.Event()
    box = make_box(lambda values, context: done.wait(0.02), max_seconds=0.01)
    results, _ = answer(box)
    assert results == ["false"]


def test_tools_that_are_too_many_are_left_out_from_the_end() -> None:
    tools = [Tool(f"t{number}", "x", lambda values, context: "") for number in range(5)]
    box = Toolbox(tools, max_tools=3)
    assert [one["function"]["name"] for one in box.to_specs()] == ["t0", "t1", "t2"]
    assert box.left_out == ("t3", "t4")
    assert box.run("t4", "{}", CONTEXT).startswith("error: there is no tool named t4")


@pytest.mark.parametrize("arguments", ['{"at": "x", "te', "", "{}"])
def test_a_call_cut_by_the_limit_of_the_answer_is_not_made(arguments: str) -> None:
    made: list[Any] = []
    whole, cut = (
        ToolCallDelta(0, "a", "look", '{"at": 1}'),
        ToolCallDelta(1, "b", "look", arguments),
    )
    model = ScriptedModel([whole, cut, Finished("length")], "Done.")
    box = make_box(lambda values, context: str(made.append(values)))
    asked = [{"role": "user", "content": "Look."}]
    events = list(run_agent(model, asked, box, CONTEXT, ModelOptions(CANCEL), max_steps=5))
    results = {one.id: one.result for one in events if isinstance(one, ToolFinished)}
    assert made == [{"at": 1}]
    assert "max_tokens" in results["b"]
    assert events[-2] == TextDelta("Done.")


def test_a_whole_call_at_the_limit_of_the_answer_is_made() -> None:
    call = ToolCallDelta(0, "a", "look", '{"at": 1}')
    model = ScriptedModel([call, Finished("length")], "Done.")
    asked = [{"role": "user", "content": "Look."}]
    events = list(run_agent(model, asked, make_box(), CONTEXT, ModelOptions(CANCEL), max_steps=5))
    assert [one.result for one in events if isinstance(one, ToolFinished)] == ["same"]
