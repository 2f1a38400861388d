"""After any output of a model, later requests of its session are valid.

Random sequences of turns with an endpoint as strict as OpenAI's rules. ``make sequences`` runs
2,000 of them, ``ASTRBOT_TEST_SEQUENCES`` any number, and CI a few.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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

#: One turn: the model's responses to each request, and whether the turn is stopped.
TURNS = st.tuples(st.lists(ANSWERS, min_size=1, max_size=4), st.booleans(), st.booleans())


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("alternating", [False, True])
def test_no_later_request_of_a_session_is_rejected(make_api: Any, alternating: bool) -> None:
    played: dict[str, Any] = {"answers": [], "stop": None}

    def play(number: int, body: dict[str, Any]) -> Any:
        if played["stop"] is not None:
            stop, played["stop"] = played["stop"], None
            stop()
        return played["answers"].pop(0) if played["answers"] else say("ok")

    with StrictEndpoint(play, alternating=alternating) as endpoint:
        rule = "strict_roles = true" if alternating else ""
        api: Api = make_api(
            f'[provider]\ntype = "openai"\nbase_url = "{endpoint.base_url}"\nmodel = "m"\n'
            f"max_retries = 0\n{rule}\n"
            '[agent]\ntitles = false\nsystem_prompt = "Be kind."\nmax_steps = 4\n'
        )
        sessions = iter(range(10**9))

        def stop(session: str) -> None:
            headers = {"X-API-Key": api.key}
            api.app.test_client().post(
                f"/api/v1/chat/sessions/{session}/stop", headers=headers, json={"username": "alice"}
            )

        @settings(
            max_examples=SEQUENCES // 2,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(TURNS, min_size=1, max_size=4))
        def sequence(turns: list[Any]) -> None:
            session = f"s{next(sessions)}"
            for answers, stopped, streaming in turns:
                played["answers"] = list(answers)
                played["stop"] = (lambda: stop(session)) if stopped else None
                api.chat("go on", session_id=session, enable_streaming=streaming)
            played["answers"], played["stop"] = [], None
            events = api.chat("and now?", session_id=session)
            assert endpoint.faults == []
            said = [one["data"] for one in events if one["type"] == "complete"]
            assert said == ["ok"]

        sequence()
    assert len(endpoint.bodies) >= SEQUENCES // 2
