"""What the others are compared with: Flask, and nothing in it."""

from __future__ import annotations

from flask import Flask

application = Flask(__name__)


@application.get("/api/v1/im/bots")
def list_bots() -> dict[str, object]:
    """Answer what the real route answers, from a constant."""
    return {"status": "ok", "message": None, "data": {"bot_ids": ["tg"]}}
