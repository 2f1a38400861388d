"""``POST /widget/visits``: open the chat of a page as a visitor. No key is needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import marshmallow as ma
from flask import Response, request

from ...config.widget import WidgetConfig
from ...errors import ApiError
from ..envelope import ok
from ..fields import optional_text, required_text
from ..schemas import RequestSchema, envelope_of, flag, text, text_list, time
from ..state import get_state
from .routes import blp

#: The blueprint of ``widget/routes.py``, extended with the route of this module.
__all__ = ["blp"]

_TOKEN = "WyJzdXBwb3J0IiwidmlzaXRvci0wYTFiIl0.Jw0"


class VisitRequestSchema(RequestSchema):
    config_id = required_text("The config of the chat. It must have a `[widget]` table.", "support")
    visitor = optional_text("The `visitor` from the response to an earlier visit.", "")


class VisitSchema(ma.Schema):
    """A visitor's session key and the initial content of the chat."""

    api_key = text("A session key.", "abk_8Jd0…")
    expires_at = time("Time at which the key expires, ISO 8601, UTC.")
    username = text("The username of the key.", "visitor-0a1b2c3d4e5f60718293")
    visitor = text("Send this with the next visit to remain the same visitor.", _TOKEN)
    heading = text("The title of the chat. May be empty.", "Support")
    greeting = text("Markdown text for an empty conversation. May be empty.", "How can I help?")
    suggestions = text_list("Suggested messages.", ["Where is my order?"])
    files = flag("Whether the key may upload files.", False)


@blp.post("/widget/visits", operation_id="openWidgetVisit")
@blp.arguments(VisitRequestSchema(), example={"config_id": "support"})
@blp.answers(envelope_of("VisitAnswer", VisitSchema()))
@blp.raises(
    "missing_field", "config_not_found", "origin_refused", "widget_closed", "key_restricted",
    "too_many_keys", "visits_exhausted",
)  # fmt: skip
def open_visit(body: dict[str, Any]) -> Response:
    """Open the chat of a page as a visitor.

    The `[widget]` table of the config defines the allowed origins and the daily limits of each
    visitor and each IP address. The response has a session key for one hour and a few turns.
    When the key is used up, visit again and send the returned `visitor`. Without it, you become
    a new visitor.
    """
    config = get_state().agents.configs.choose_config(body["config_id"], "")
    if config is None:
        raise ApiError("missing_field", "Missing key: config_id")
    widget = config.widget
    if widget is None:
        raise ApiError(
            "config_not_found", f"the config {config.id} is not open to visitors: no [widget]"
        )
    _check_origin(widget)
    admission = get_state().keys.visitors.admit(
        config, widget, request.remote_addr or "", body["visitor"]
    )
    return ok(
        {
            **asdict(admission),
            "heading": widget.heading,
            "greeting": widget.greeting,
            "suggestions": list(widget.suggestions),
            "files": widget.files,
        }
    )


def _check_origin(widget: WidgetConfig) -> None:
    """Check that the origin of the page is allowed.

    :raises ApiError: ``origin_refused``.
    """
    # Browsers send Origin with every POST, even to the same origin.
    origin = request.headers.get("Origin", "")
    if not widget.allows(origin):
        raise ApiError(
            "origin_refused",
            f"pages of {origin[:200] or 'no origin'} may not open this chat: its config names "
            "their origins in [widget] origins",
        )
