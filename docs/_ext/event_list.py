"""Sphinx directive ``event-list``: the events of streams, from :mod:`astrbot_api.events`.

Its content is a list of functions of that module. Each becomes a section with the function's
docstring and an example line.
"""

from __future__ import annotations

import inspect
from typing import Any

import orjson
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from astrbot_api import events

_RUN = "7254cd9a-814f-498e-a202-2c1777b1bd2d"
_CHECKPOINT = "f2c04df3-9ee4-4ce6-8f2b-6c5d2a1f7d0e"
_TIME = "2026-11-23T09:30:01.204518+00:00"
_STATS = {
    "token_usage": {"input_other": 412, "input_cached": 0, "output": 57},
    "start_time": 1795426200.11,
    "end_time": 1795426202.48,
    "time_to_first_token": 0.31,
}
_CALL = {"id": "call_1", "name": "current_time", "args": {"zone": "Asia/Tokyo"}, "ts": 1795426200.9}
_RESULT = {"id": "call_1", "ts": 1795426200.92, "result": "18:30"}
_SAID = {"type": "bot", "message": [{"type": "plain", "text": "It is"}]}
_PUSHED = {
    "id": 42,
    "sender_id": "bot",
    "sender_name": "bot",
    "content": {"type": "bot", "message": [{"type": "plain", "text": "Your report is ready."}]},
    "llm_checkpoint_id": None,
    "created_at": _TIME,
}

#: Function -> heading, arguments of its example.
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "session_id": ("session_id", {"session": "my_session_001"}),
    "user_message_saved": (
        "user_message_saved",
        {"number": 40, "created_at": _TIME, "checkpoint": _CHECKPOINT},
    ),
    "run_started": ("run_started", {"run_id": _RUN}),
    "plain": ("plain", {"run_id": _RUN, "text": "It is half", "streaming": True}),
    "tool_call": ("plain, chain_type tool_call", {"run_id": _RUN, "call": _CALL}),
    "tool_call_result": (
        "plain, chain_type tool_call_result",
        {"run_id": _RUN, "result": _RESULT},
    ),
    "media": (
        "image, record, video, file",
        {"run_id": _RUN, "kind": "image", "filename": "plot.png", "streaming": True},
    ),
    "attachment_saved": (
        "attachment_saved",
        {"attachment_id": "19281a02-6f0e-4c6c-a6ab-0f4ad5e3bd1c", "kind": "image"},
    ),
    "rewind": ("rewind", {"run_id": _RUN, "to": 3, "chars": 24}),
    "approval_required": (
        "approval_required",
        {
            "run_id": _RUN,
            "approval_id": "0a5a83f1-9f5b-5f0e-a0ce-1c3f3b2f7f10",
            "tool": "pay",
            "arguments": {"amount": 5},
            "expires_at": _TIME,
        },
    ),
    "agent_stats": ("agent_stats", {"stats": _STATS}),
    "complete": (
        "complete",
        {
            "run_id": _RUN,
            "text": "It is half past six.",
            "reasoning": "The tool knows.",
            "streaming": True,
            "finish_reason": "stop",
        },
    ),
    "message_saved": (
        "message_saved",
        {"number": 41, "created_at": _TIME, "checkpoint": _CHECKPOINT},
    ),
    "error": (
        "error",
        {
            "run_id": _RUN,
            "code": "provider_error",
            "message": "The model's endpoint did not answer in time.",
        },
    ),
    "end": ("end", {"run_id": _RUN}),
    "tool_progress": (
        "tool_progress",
        {"run_id": _RUN, "call_id": "call_1", "progress": 3, "total": 10, "message": "Reading"},
    ),
    "queue_position": ("queue_position", {"run_id": _RUN, "position": 3}),
    "run_snapshot": (
        "run_snapshot",
        {
            "run_id": _RUN,
            "session": "my_session_001",
            "checkpoint": _CHECKPOINT,
            "status": "running",
            "revision": 9,
            "content": _SAID,
        },
    ),
    "inbox_opened": ("inbox_opened", {"after": 41, "reset": False}),
    "inbox_message": ("message", {"session": "my_session_001", "message": _PUSHED}),
}


class EventList(SphinxDirective):
    """Shows each event of its content as a section."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for name in " ".join(self.content).split():
            heading, arguments = EXAMPLES[name]
            function = getattr(events, name)
            line = orjson.dumps(function(**arguments)).decode()
            lines += [f".. _event-{name}:", "", heading, "~" * len(heading), ""]
            lines += [*inspect.cleandoc(function.__doc__).splitlines(), ""]
            lines += [".. code-block:: none", "   :class: event", "", f"   data: {line}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("event-list", EventList)
    return {"parallel_read_safe": True}
