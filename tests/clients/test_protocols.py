"""Official clients of the protocols, unchanged, with a server of two workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..servers import MOCK_CONFIG, Server, add_config, create_key
from .npm_packages import Do, make_do

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("protocols")
    add_config(data_dir, MOCK_CONFIG)
    careful = MOCK_CONFIG.replace("default", "careful") + '[tools]\napprove = ["calculate"]\n'
    (data_dir / "configs" / "careful.toml").write_text(careful, encoding="utf-8")
    with Server(data_dir) as made:
        yield made


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return create_key(server.data_dir, "chat")


@pytest.fixture(scope="module")
def do(server: Server, key: str) -> Do:
    """Run a job of ``npm/driver.mjs`` and return its result."""
    return make_do("driver.mjs", "ai", server, key)


#: Versions of the AI SDK that support this protocol.
each_version = pytest.mark.parametrize("ai", ["ai", "ai-v6", "ai-v5"])


def texts(message: dict[str, Any], kind: str = "text") -> str:
    return "".join(one["text"] for one in message["parts"] if one["type"] == kind)


@each_version
def test_usechat_chats_and_regenerates(do: Do, ai: str) -> None:
    done = do("chat", ai=ai)
    assert done["status"] == "ready"
    roles = [one["role"] for one in done["messages"]]
    assert roles == ["user", "assistant"] * 2
    assert texts(done["messages"][1], "reasoning") == "Let me think about it."
    assert texts(done["messages"][1]) == "Hello from mock."
    assert texts(done["messages"][3]) == "echo: ECHO again"


@each_version
def test_usechat_runs_its_own_tools(do: Do, ai: str) -> None:
    done = do("tools", ai=ai)
    assert [one["role"] for one in done["messages"]] == ["user", "assistant"]
    parts = done["messages"][1]["parts"]
    call = next(one for one in parts if one["type"] == "tool-get_weather")
    assert (call["input"], call["state"], call["output"]) == (
        {"city": "Oslo"}, "output-available", "sunny",
    )  # fmt: skip
    assert texts(done["messages"][1]) == "tool said: sunny"


def test_usechat_approves_and_rejects_the_servers_calls(do: Do) -> None:
    done = do("approve")
    assert done["states"] == [
        "approval-requested", "output-available", "approval-requested", "output-denied",
    ]  # fmt: skip
    assert [one["role"] for one in done["messages"]] == ["user", "assistant"] * 2
    approved, rejected = done["messages"][1], done["messages"][3]
    call = next(one for one in approved["parts"] if one["type"] == "dynamic-tool")
    assert (call["input"], call["output"]) == ({"expression": "6*7"}, "42")
    assert texts(approved) == "tool said: 42"
    assert texts(rejected).startswith("tool said: error: this call was rejected: dear")


@each_version
def test_the_transport_resumes_a_turn_on_any_worker(do: Do, ai: str) -> None:
    done = do("resume", ai=ai)
    assert done["text"].split() == [f"tok{number}" for number in range(15)]
    assert done["after"] is None


@each_version
def test_usechat_gets_the_error_of_a_turn(do: Do, ai: str) -> None:
    done = do("fail", ai=ai)
    assert done["status"] == "error"
    assert "400" in done["errors"][0]


def test_an_agui_agent_gets_thinking_text_and_state(do: Do) -> None:
    done = do("run")
    reasoning = ["REASONING_MESSAGE_CONTENT"] * 3
    assert done["types"][:7] == [
        "RUN_STARTED", "STATE_SNAPSHOT", "REASONING_START", "REASONING_MESSAGE_START", *reasoning,
    ]  # fmt: skip
    assert done["types"][-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    said = [(one["role"], one["content"]) for one in done["messages"]]
    assert said == [
        ("user", "THINK Hello"),
        ("reasoning", "Let me think about it."),
        ("assistant", "Hello from mock."),
        ("user", "ECHO again"),
        ("assistant", "echo: ECHO again"),
    ]
    assert done["state"] == {"cart": []}


def test_an_agui_agent_runs_its_own_tools(do: Do) -> None:
    _, called, _, last = do("runTools")["messages"]
    (call,) = called["toolCalls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert last["content"] == "tool said: sunny"


def test_an_agui_agent_gets_the_servers_tool_calls(do: Do) -> None:
    _, called, result, last = do("runServerTools")["messages"]
    assert called["toolCalls"][0]["function"]["name"] == "calculate"
    assert (result["role"], result["toolCallId"]) == ("tool", called["toolCalls"][0]["id"])
    assert "42" in result["content"]
    assert last["content"].startswith("tool said: ")


@pytest.mark.parametrize(
    ("payload", "result"),
    [
        ({"approved": True}, "42"),
        (
            {"approved": True, "editedArgs": {"expression": "6*8"}},
            "A person approved this call with",
        ),
        ({"approved": False, "reason": "dear"}, "error: this call was rejected: dear."),
    ],
    ids=["approve", "edit", "reject"],
)
def test_an_agui_agent_is_interrupted_for_an_approval_and_continues(
    do: Do, payload: dict[str, Any], result: str
) -> None:
    done = do("runApproval", payload=payload)
    interrupt, (_, called, made, said) = done["interrupt"], done["messages"]
    assert interrupt["reason"] == "tool_call"
    assert interrupt["metadata"] == {"tool": "calculate", "arguments": {"expression": "6*7"}}
    assert interrupt["toolCallId"] == called["toolCalls"][0]["id"] == made["toolCallId"]
    schema = interrupt["responseSchema"]
    assert (schema["required"], [*schema["properties"]]) == (
        ["approved"], ["approved", "reason", "editedArgs"],
    )  # fmt: skip
    assert done["left"] == []
    assert made["content"].startswith(result)
    assert said["content"].startswith(f"tool said: {result}")
    assert len({one["id"] for one in done["messages"]}) == 4


def test_an_agui_agent_gets_the_error_of_a_turn(do: Do) -> None:
    done = do("runFails")
    (event,) = done["events"]
    assert event["code"] == "provider_refused"
    assert "400" in event["message"]
