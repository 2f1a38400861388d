"""The line of any event is JSON and has a length that every client can read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from astrbot_api import events
from astrbot_api.event_lines import MAX_LINE_BYTES, encode_line
from astrbot_api.events import Event, encode_event

#: Each pair of characters needs eight bytes of a line.
HUGE = '"\u2028' * 50_000

#: Values of the other fields.
USUAL = {"str": "a", "int": 1, "float": 0.5, "bool": False}

CONSTRUCTORS = {
    name: make
    for name, make in inspect.getmembers(events, inspect.isfunction)
    if inspect.signature(make).return_annotation == "Event" and not name.startswith("_")
}


def list_huge(kind: str, text: str) -> list[Any]:
    """Return huge values for a parameter with this annotation."""
    if "str" in kind.removeprefix("dict[str, Any]"):
        return [text]
    deep: Any = text
    for _ in range(200):
        deep = {"a": deep}
    objects = [
        {"id": "a", "args": text, "content": text, "message": [{"type": "plain", "text": text}]},
        {"result": {text: text}},
        {"id": text},
        {"many": ["abc"] * 60_000},
        {str(number): number for number in range(30_000)},
        {"wide": [[text[:200]] * 40] * 40},
        {"deep": deep},
    ]
    if kind == "Any":
        return [*objects, text, [text] * 2]
    return objects if kind == "dict[str, Any]" else []


def iter_huge(make: Any, text: str) -> Iterator[Event]:
    """Yield events with one huge field each, and one with all of them."""
    parameters = inspect.signature(make).parameters.values()
    named = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
    usual = {
        one.name: USUAL.get(one.annotation.split(" |")[0], {"id": "a", "name": "n"})
        for one in named
    }
    every = dict(usual)
    for one in named:
        for value in list_huge(one.annotation, text):
            every[one.name] = value
            yield make(**{**usual, one.name: value})
    yield make(**every)


def test_every_event_is_tried() -> None:
    assert {"approval_required", "run_snapshot", "tool_call", "complete"} <= CONSTRUCTORS.keys()
    assert len(CONSTRUCTORS) >= 20


@pytest.mark.parametrize("make", CONSTRUCTORS.values(), ids=CONSTRUCTORS.keys())
def test_a_huge_event_fits_a_line(make: Any) -> None:
    for event in iter_huge(make, HUGE):
        line = encode_event(event)
        assert len(line) < MAX_LINE_BYTES
        shown = orjson.loads(line)
        assert event["type"].startswith(shown["type"][:125])
        assert shown.keys() - {"truncated"} == event.keys()
        assert shown.get("truncated", False) == (len(encode_line(event)) > MAX_LINE_BYTES)
        if event.get("chain_type") in ("tool_call", "tool_call_result"):
            assert isinstance(orjson.loads(shown["data"]), dict)


def test_what_asks_for_an_approval_keeps_what_fits() -> None:
    arguments = {"to": "ann@example.org", "body": "x" * 400_000, "tags": ["a", "b"]}
    event = events.approval_required("r", "a" * 36, "send_mail", arguments, "2026-11-24")
    shown = orjson.loads(encode_event(event))
    body = shown["data"]["arguments"].pop("body")
    assert len(body) > 30_000
    assert arguments["body"].startswith(body)
    assert shown == {
        "type": "approval_required",
        "data": {
            "id": "a" * 36,
            "tool": "send_mail",
            "arguments": {"to": "ann@example.org", "tags": ["a", "b"]},
            "expires_at": "2026-11-24",
        },
        "message_id": "r",
        "truncated": True,
    }
