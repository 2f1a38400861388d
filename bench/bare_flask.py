"""What this server is compared with: Flask, and nothing in it but the same task."""

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
    """Answer what the real route answers, from a constant."""
    return {"status": "ok", "message": None, "data": {"bot_ids": ["tg"]}}


@application.get("/page")
def show_page() -> dict[str, object]:
    """Answer what a page of sessions answers, from a constant."""
    return _PAGE  # type: ignore[no-any-return]


@application.get("/stream")
def stream() -> Response:
    """Yield a frame a token."""
    words = request.args["words"]

    def generate() -> Iterator[str]:
        yield OPENING
        for number, token in enumerate(iter_tokens(words, _GATE)):
            yield make_frame(number, token)

    return Response(generate(), content_type="text/event-stream")


@application.get("/bench/go")
def go() -> str:
    """Let the tokens flow."""
    _GATE.open(float(request.args["seconds"]))
    return "ok"


@application.post("/relay")
def relay() -> Response:
    """Ask the model and hand on what it says."""
    message = request.get_json()["message"]
    return Response(iter_relayed(message), content_type="text/event-stream")


@application.post("/file")
def take_file() -> str:
    """Keep a file as Flask's manual has it."""
    request.files["file"].save(_FILE)
    return "ok"


@application.get("/file")
def give_file() -> Response:
    """Send it as Flask's manual has it."""
    return send_file(_FILE)
