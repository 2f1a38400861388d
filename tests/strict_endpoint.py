"""A model endpoint that rejects requests which violate the rules of chat completions.

Source: https://platform.openai.com/docs/api-reference/chat/create, and the error texts of OpenAI,
vLLM and llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from .unit.raw_endpoint import DONE, Connection, RawEndpoint, event

#: Result of a script: the events of a streamed response, or a status and its JSON.
Played = Sequence[bytes] | tuple[int, Any]

#: Answers a request, given its number (from 1) and its body.
Script = Callable[[int, dict[str, Any]], Played]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def find_fault(messages: list[dict[str, Any]], *, alternating: bool = False) -> str:
    """Return the fault of a conversation, or an empty text if it is valid.

    :param alternating: Whether user and assistant must alternate, as in Mistral's templates.
    """
    waiting: list[str] = []
    before = ""
    for at, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                return f"messages[{at}]: role 'tool' must be a response to 'tool_calls'"
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return f"messages[{at}]: no tool message responds to {waiting}"
        if role == "assistant":
            calls = message.get("tool_calls")
            if not content and not calls:
                return f"messages[{at}]: content or tool_calls must be set"
            if calls == []:
                return f"messages[{at}]: [] is too short - 'tool_calls'"
            waiting = [call["id"] for call in calls or ()]
            if len(set(waiting)) < len(waiting):
                return f"messages[{at}]: duplicate tool call ids"
            for call in calls or ():
                if fault := _find_fault_in_call(call):
                    return f"messages[{at}]: {fault}"
        elif not content:
            return f"messages[{at}]: content must not be empty"
        if (
            alternating
            and (role == before or (before, role) == ("tool", "user"))
            and role != "tool"
        ):
            return f"messages[{at}]: roles must alternate user/assistant, {role} after {before}"
        before = role
    if waiting:
        return f"no tool message responds to {waiting}"
    return "" if before in ("user", "tool") else f"the last message is the {before}'s"


def _find_fault_in_call(call: dict[str, Any]) -> str:
    if not call["id"]:
        return "a call has no id"
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        return f"arguments are no JSON object: {call['function']['arguments']!r}"
    if not _NAME.fullmatch(call["function"]["name"]):
        return f"bad function.name: {call['function']['name']!r}"
    return ""


class StrictEndpoint(RawEndpoint):
    """Rejects invalid requests with 400. A script answers the others."""

    def __init__(self, script: Script, *, alternating: bool = False) -> None:
        super().__init__(self._serve)
        self._script = script
        self._alternating = alternating
        #: Body of each request, or None for a GET.
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        #: Reasons of rejected requests.
        self.faults: list[str] = []

    def _serve(self, connection: Connection) -> None:
        for head, raw in connection.iter_requests():
            body = json.loads(raw) if raw else {}
            self.heads.append(head)
            self.bodies.append(body)
            fault = find_fault(body.get("messages", [{"role": "user", "content": "x"}]),
                               alternating=self._alternating)  # fmt: skip
            if fault:
                self.faults.append(fault)
                connection.send_json(400, {"error": {"message": fault}})
                continue
            played = self._script(len(self.bodies), body)
            if isinstance(played, tuple) and isinstance(played[0], int):
                connection.send_json(played[0], played[1])
            else:
                connection.send_stream(*played)  # type: ignore[arg-type]


def say(*texts: str, finish: str = "stop", **delta: Any) -> list[bytes]:
    """Return an answer in words."""
    more = [event({**delta})] if delta else []
    return [*more, *(event({"content": text}) for text in texts), event({}, finish), DONE]


def call(
    name: str = "calculate",
    arguments: Any = '{"expression": "6*7"}',
    id: str = "call_1",
    **more: Any,
) -> dict[str, Any]:
    """Return one whole tool call."""
    function = {"name": name, "arguments": arguments}
    return {"index": 0, "id": id, "type": "function", "function": function, **more}


def step(*calls: dict[str, Any], finish: str = "tool_calls", **delta: Any) -> list[bytes]:
    """Return a step that calls tools."""
    more = [event({"role": "assistant", "content": None, **delta})] if delta else []
    return [*more, *(event({"tool_calls": [one]}) for one in calls), event({}, finish), DONE]


def since_user(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of the turn that a request is about."""
    messages = body["messages"]
    return messages[max(at for at, one in enumerate(messages) if one["role"] == "user") :]


def has_result(body: dict[str, Any]) -> bool:
    """Return whether a tool has answered in the turn that a request is about."""
    return any(one["role"] == "tool" for one in since_user(body))
