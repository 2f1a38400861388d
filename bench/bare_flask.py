"""A minimal Flask application with the same tasks, for comparison."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, request, send_file

from bench.relay import iter_relayed
from bench.source import OPENING, Gate, iter_tokens, make_frame

application = Flask(__name__)

_GATE = Gate()
_FILE = Path(tempfile.mkdtemp(prefix="bare-flask")) / "file"
_PAGE = json.loads(os.environ.get("BENCH_PAGE", "{}"))


@application.get("/api/v1/im/bots")
def list_bots() -> dict[str, object]:
    """Return the response of the real route as a constant."""
    return {"status": "ok", "message": None, "data": {"bot_ids": ["tg"]}}


@application.get("/page")
def show_page() -> dict[str, object]:
    """Return the response of a page of sessions as a constant."""
    return _PAGE  # type: ignore[no-any-return]


@application.get("/stream")
def stream() -> Response:
    """Yield one frame per token."""
    words = request.args["words"]

    def generate() -> Iterator[str]:
        yield OPENING
        for number, token in enumerate(iter_tokens(words, _GATE)):
            yield make_frame(number, token)

    return Response(generate(), content_type="text/event-stream")


@application.get("/bench/go")
def go() -> str:
    """Start the tokens."""
    _GATE.open(float(request.args["seconds"]))
    return "ok"


@application.post("/relay")
def relay() -> Response:
    """Call the model and forward its tokens."""
    message = request.get_json()["message"]
    return Response(iter_relayed(message), content_type="text/event-stream")


@application.post("/file")
def take_file() -> str:
    """Store a file as in Flask's manual."""
    request.files["file"].save(_FILE)
    return "ok"


@application.get("/file")
def give_file() -> Response:
    """Send a file as in Flask's manual."""
    return send_file(_FILE)
