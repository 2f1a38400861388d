"""The document's schemas of events, which generated clients use."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from astrbot_api import events

from ..servers import parse_events
from .conftest import Api
from .test_docs import check_against, get_document

pytest.importorskip("sphinx")

EXTENSION = Path(__file__).parent.parent.parent / "docs" / "_ext" / "event_list.py"


@pytest.fixture(scope="module")
def examples() -> dict[str, dict[str, Any]]:
    """Return the example of each documented event."""
    found = runpy.run_path(str(EXTENSION))["EXAMPLES"]
    return {name: getattr(events, name)(**arguments) for name, (_, arguments) in found.items()}


def check(document: dict[str, Any], event: dict[str, Any]) -> None:
    kind = "InboxEvent" if event["type"] in ("inbox_opened", "message") else "ChatEvent"
    union = document["components"]["schemas"][kind]
    # Use the discriminator like a generated client, so that an error names the event.
    name = union["discriminator"]["mapping"][event["type"]].rpartition("/")[2]
    check_against({"$ref": f"#/components/schemas/{name}"}, event, document)


def test_every_event_has_a_schema(api: Api, examples: dict[str, dict[str, Any]]) -> None:
    document = get_document(api)
    for event in examples.values():
        check(document, event)


@pytest.mark.parametrize("message", ["THINK Hello", "TOOL=calculate", "FAIL=429", "/help"])
def test_the_events_of_a_turn_match_their_schemas(api: Api, message: str) -> None:
    document = get_document(api)
    for event in api.chat(message):
        check(document, event)


def test_the_events_of_a_resumed_turn_match_their_schemas(api: Api) -> None:
    run_id = next(one for one in api.chat("Hello") if one["type"] == "run_started")["message_id"]
    path = f"/api/v1/chat/runs/{run_id}/stream?username=alice&after=1&snapshot=true"
    document = get_document(api)
    for event in parse_events(api.get(path).get_data()):
        check(document, event)
