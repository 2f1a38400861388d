"""After any output of a model, later requests of its session are valid.

Random sequences of turns with an endpoint as strict as OpenAI's rules. ``make sequences`` runs
2,000 of them, ``ASTRBOT_TEST_SEQUENCES`` any number, and CI a few.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..responses_endpoint import ResponsesEndpoint, function_call, message, reasoning
from ..strict_endpoint import StrictEndpoint, call, say, step
from ..unit.raw_endpoint import DONE, event
from .conftest import Api

SEQUENCES = int(os.environ.get("ASTRBOT_TEST_SEQUENCES", "60"))

ARGUMENTS = st.sampled_from(
    ["{}", '{"expression": "1+1"}', '{"expression": "6*', "[1]", "null", "", '"{}"', '"text"',
     '{"a":1}{"a":2}', '{"a":1}{"a":1}', "\x00", '{"a": "\n"}', '{"a": NaN}', "{" * 50, 7, None,
     {"expression": "2+2"}, ["x"]]
)  # fmt: skip

CALLS = st.builds(
    lambda name, arguments, id, index, extra: {
        **call(name, arguments, id, **extra), **({} if index is None else {"index": index}),
    },
    st.sampled_from(["calculate", "current_time", "", "no such!", "a.b", "x" * 90, "käse"]),
    ARGUMENTS,
    st.sampled_from(["", "call_1", "call_1", "call_2", "x" * 80, "a b", "call_é"]),
    st.sampled_from([None, 0, 0, 1, 5]),
    st.sampled_from([{}, {}, {"extra_content": {"google": {"thought_signature": "S"}}}]),
)  # fmt: skip

DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, st.sampled_from(
        ["", " ", "Hello", "\n\n", "<think>hm</think>", "hm</think>", "<think>", "\ud83d", "```"])),
    st.builds(lambda text: {"reasoning_content": text}, st.sampled_from(["", "hm", "\n"])),
    st.builds(lambda one: {"tool_calls": [one]}, CALLS),
    st.builds(lambda one: {"tool_calls": one}, st.lists(CALLS, max_size=3)),
    st.sampled_from([
        {}, {"content": None}, {"tool_calls": None}, {"tool_calls": [None, {}]},
        {"function_call": {"name": "calculate", "arguments": "{"}}, {"refusal": "No."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]},
        {"content": {"type": "text", "text": "part"}}, {"content": 7},
        {"reasoning": {"text": "hm"}},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "S"}]},
        {"tool_calls": call("calculate", "{}", "call_3")}, {"tool_calls": {"index": "0"}},
        {"content": [{"type": "text", "text": "parts"}]}, {"images": [{"nonsense": 1}]},
    ]),
)  # fmt: skip

ENDS = st.sampled_from(
    [[event({}, "stop"), DONE], [event({}, "tool_calls"), DONE], [event({}, "length"), DONE],
     [event({}, "content_filter"), DONE], [event({}, "error"), DONE], [DONE], [],
     [b'data: {"error":{"code":502,"message":"x"}}\n\n'], [b"data: nonsense\n\n", DONE],
     [b'data: {"choices":[{"delta":{"content":"\xff"},"finish_reason":"stop"}]}\n\n']]
)  # fmt: skip

STREAMS = st.builds(
    lambda deltas, end: [*(event(one) for one in deltas), *end],
    st.lists(DELTAS, max_size=5), ENDS,
)  # fmt: skip

ANSWERS = st.one_of(
    STREAMS,
    STREAMS,
    st.builds(lambda calls: step(*calls), st.lists(CALLS, min_size=1, max_size=4)),
    st.sampled_from([(500, {"error": "x"}), (200, {"choices": None}), (429, {}), (200, [])]),
)


class Sequences:
    """Plays random answers, and checks that the last request of each session is accepted.

    :param end: The last answer, with the text ``ok``.
    """

    def __init__(self, end: Any) -> None:
        self._end = end
        self._answers: list[Any] = []
        self._stop: Callable[[], object] | None = None

    def next(self) -> Any:
        """Return the next answer, and stop its turn if asked to."""
        if self._stop is not None:
            stop, self._stop = self._stop, None
            stop()
        return self._answers.pop(0) if self._answers else self._end

    def run(self, api: Api, faults: list[Any], answers: st.SearchStrategy[Any]) -> None:
        """Run sequences of turns: the answers to each request, and whether it is stopped."""
        sessions = iter(range(10**9))
        turns = st.tuples(st.lists(answers, min_size=1, max_size=4), st.booleans(), st.booleans())

        def stop(session: str) -> None:
            headers = {"X-API-Key": api.key}
            api.app.test_client().post(
                f"/api/v1/chat/sessions/{session}/stop", headers=headers, json={"username": "alice"}
            )

        @settings(
            max_examples=SEQUENCES // 3,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(turns, min_size=1, max_size=4))
        def sequence(turns: list[Any]) -> None:
            session = f"s{next(sessions)}"
            for given_answers, stopped, streaming in turns:
                self._answers = list(given_answers)
                self._stop = partial(stop, session) if stopped else None
                api.chat("go on", session_id=session, enable_streaming=streaming)
            self._answers, self._stop = [], None
            events = api.chat("and now?", session_id=session)
            assert faults == []
            assert [one["data"] for one in events if one["type"] == "complete"] == ["ok"]

        sequence()


def config_of(base_url: str, rule: str = "") -> str:
    return (
        f'[provider]\ntype = "openai"\nbase_url = "{base_url}"\nmodel = "m"\n'
        f"max_retries = 0\n{rule}\n"
        '[agent]\ntitles = false\nsystem_prompt = "Be kind."\nmax_steps = 4\n'
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("alternating", [False, True])
def test_no_later_request_of_a_session_is_rejected(make_api: Any, alternating: bool) -> None:
    sequences = Sequences(say("ok"))
    with StrictEndpoint(lambda *_: sequences.next(), alternating=alternating) as endpoint:
        rule = "strict_roles = true" if alternating else ""
        sequences.run(make_api(config_of(endpoint.base_url, rule)), endpoint.faults, ANSWERS)
    assert len(endpoint.bodies) >= SEQUENCES // 3


#: Items of Responses. A reasoning item always belongs to the next item.
ITEMS = st.one_of(
    st.builds(
        lambda name, arguments, id: {**function_call(id), "name": name, "arguments": arguments},
        st.sampled_from(["calculate", "current_time", "", "no such!", "a.b", "x" * 90, "käse"]),
        ARGUMENTS.filter(lambda one: isinstance(one, str)),
        st.sampled_from(["", "call_1", "x" * 80, "a b", "call_é"]),
    ),
    st.builds(message, st.sampled_from(["Hello", " ", "", "<think>hm</think>x", "hm</think>y"])),
)  # fmt: skip

ENDINGS = st.sampled_from(
    [{}, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
     {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
     {"status": "failed", "error": {"code": "server_error", "message": "x"}}]
)  # fmt: skip


@pytest.mark.timeout(3600)
def test_no_later_request_to_responses_is_rejected(make_api: Any) -> None:
    sequences = Sequences(([[message("ok")]], {}))

    def play(number: int, body: dict[str, Any]) -> Any:
        items, endpoint.fields = sequences.next()
        # OpenAI's ids of calls are unique.
        return [
            {**one, "call_id": f"{one['call_id']}{at}"} if "call_id" in one else one
            for at, one in enumerate(chain.from_iterable(items))
        ]

    item = st.builds(
        lambda thinks, one: [reasoning("hm"), one] if thinks else [one], st.booleans(), ITEMS
    )
    with ResponsesEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint.base_url, 'api = "responses"'))
        sequences.run(api, endpoint.faults, st.tuples(st.lists(item, max_size=3), ENDINGS))
    assert len(endpoint.bodies) >= SEQUENCES // 3
