"""A model endpoint with OpenAI's Responses, checked by the types of OpenAI's own SDK.

Chat completions are rejected with OpenAI's advice to use Responses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter, ValidationError

from .unit.raw_endpoint import Connection, RawEndpoint

Item = dict[str, Any]

#: Answers a request, given its number (from 1) and its body: output items, or a status and JSON.
Script = Callable[[int, dict[str, Any]], Sequence[Item] | tuple[int, Any]]

#: Changes the events of a response.
Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

ADVICE = (
    "Function tools with reasoning_effort are not supported for m in /v1/chat/completions."
    " To use function tools, use /v1/responses or set reasoning_effort to 'none'."
)

_REQUEST: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_RESPONSE: TypeAdapter[Any] = TypeAdapter(Response)

USAGE = {
    "input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
    "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120,
}  # fmt: skip


class ResponsesEndpoint(RawEndpoint):
    """Answers with the items of a script, as events."""

    def __init__(
        self,
        script: Script,
        *,
        advice: str = ADVICE,
        whole: bool = False,
        change: Change = list,
        **ending: Any,
    ) -> None:
        """
        :param change: Changes the events as a gateway does.
        :param ending: Fields of the last response, such as ``status``.
        """
        super().__init__(self._serve)
        self._script = script
        self._advice = advice
        self._whole = whole
        self._change = change
        #: Fields of the next responses.
        self.fields = ending
        #: Rejections of invalid requests.
        self.faults: list[Any] = []
        #: Path and body of each request.
        self.requests: list[tuple[str, dict[str, Any]]] = []

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the requests to Responses."""
        return [body for path, body in self.requests if path == "/v1/responses"]

    def _serve(self, connection: Connection) -> None:
        for head, raw in connection.iter_requests():
            path, body = head.split()[1], json.loads(raw)
            self.requests.append((path, body))
            if path != "/v1/responses":
                error = {"message": self._advice, "type": "invalid_request_error",
                         "param": "reasoning_effort", "code": None}  # fmt: skip
                connection.send_json(400, {"error": error})
                continue
            played: Any = find_fault(body)
            if played:
                self.faults.append((played, body))
            else:
                played = self._script(len(self.bodies), body)
            if isinstance(played, tuple):
                connection.send_json(*played)
            elif self._whole:
                connection.send_json(200, make_response(played, **self.fields))
            else:
                events = self._change(make_events(played, **self.fields))
                connection.send_stream(*map(frame, events))


def find_fault(body: dict[str, Any]) -> tuple[int, Any] | None:
    """Return the rejection of a request that OpenAI or Open Responses would reject, or None."""
    try:
        _REQUEST.validate_python(body)
    except ValidationError as error:
        return 400, {"error": {"message": str(error)[:500]}}
    unknown = body.keys() - ResponseCreateParamsStreaming.__annotations__.keys() - _inherited()
    if unknown:
        return 400, {"error": {"message": f"Unknown parameter: '{min(unknown)}'."}}
    if not all("type" in one for one in body["input"]):  # Source: OpenClaw's gateway 2026.9
        return 400, {"error": {"message": "input: Invalid input"}}
    calls = {one["call_id"] for one in body["input"] if one.get("type") == "function_call"}
    outputs = {one["call_id"] for one in body["input"] if one.get("type") == "function_call_output"}
    if calls != outputs:
        return 400, {"error": {"message": f"No tool output found for {calls ^ outputs}."}}
    for at, one in enumerate(body["input"]):
        after = body["input"][at + 1 : at + 2]
        if one.get("type") == "reasoning" and not (
            after and (after[0].get("type") == "function_call" or after[0].get("role"))
        ):
            words = f"Item '{one['id']}' of type 'reasoning' was provided without its required"
            return 400, {"error": {"message": f"{words} following item."}}
    return None


def _inherited() -> set[str]:
    bases = ResponseCreateParamsStreaming.__mro__ + tuple(
        getattr(ResponseCreateParamsStreaming, "__orig_bases__", ())
    )
    return {name for one in bases for name in getattr(one, "__annotations__", ())}


def frame(event: dict[str, Any]) -> bytes:
    """Return an event of the stream."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def make_response(output: Sequence[Item], **more: Any) -> dict[str, Any]:
    """Return a whole response."""
    response = {
        "id": "resp_1", "object": "response", "created_at": 1.0, "model": "m-2026",
        "status": "completed", "output": list(output), "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [], "usage": USAGE, **more,
    }  # fmt: skip
    _RESPONSE.validate_python(response)
    return response


def make_events(output: Sequence[Item], **ending: Any) -> list[dict[str, Any]]:
    """Return the events of a response, in OpenAI's order."""
    begun = {**make_response([]), "status": "in_progress", "usage": None}
    found: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item.get("id", "i")}
        added = {"type": "response.output_item.added", "output_index": index}
        found.append({**added, "item": _without_content(item)})
        found += _make_pieces(item, place)
        found.append({**added, "type": "response.output_item.done", "item": item})
    response = make_response(output, **ending)
    found.append({"type": f"response.{response['status']}", "response": response})
    for number, event in enumerate(found):
        event["sequence_number"] = number
        _EVENT.validate_python(event)
    return found


def _without_content(item: Item) -> Item:
    empty = {"content": [], "summary": [], "arguments": ""}
    return {**item, **{key: one for key, one in empty.items() if key in item}}


def _make_pieces(item: Item, place: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for index, part in enumerate(item.get("summary") or ()):
        own = {**place, "summary_index": index}
        blank = {"type": "summary_text", "text": ""}
        found.append({"type": "response.reasoning_summary_part.added", **own, "part": blank})
        own["type"] = "response.reasoning_summary_text.delta"
        found += ({**own, "delta": piece} for piece in _halve(part["text"]))
    for index, part in enumerate(item.get("content") or ()):
        own = {**place, "content_index": index}
        for piece in _halve(part["text"]):
            text = {"type": "response.output_text.delta", **own, "delta": piece, "logprobs": []}
            found.append(text)
        whole = {"type": "response.output_text.done", **own, "text": part["text"], "logprobs": []}
        found.append(whole)
    if arguments := item.get("arguments"):
        own = {**place, "type": "response.function_call_arguments.delta"}
        found += ({**own, "delta": piece} for piece in _halve(arguments))
        whole = {"arguments": arguments, "name": item["name"]}
        found.append({**place, "type": "response.function_call_arguments.done", **whole})
    return found


def _halve(text: str) -> list[str]:
    return [one for one in (text[: len(text) // 2], text[len(text) // 2 :]) if one]


def message(text: str) -> Item:
    """Return an output item with a text."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [part]}  # fmt: skip


def reasoning(*summary: str, id: str = "rs_1") -> Item:
    """Return an output item with a summary of the reasoning."""
    parts = [{"type": "summary_text", "text": one} for one in summary]
    return {"type": "reasoning", "id": id, "summary": parts, "encrypted_content": f"secret {id}"}


def function_call(call_id: str = "call_1", expression: str = "6*7") -> Item:
    """Return an output item that calls the built-in tool ``calculate``."""
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": "calculate",
            "arguments": json.dumps({"expression": expression}), "status": "completed"}  # fmt: skip
