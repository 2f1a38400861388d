"""What streams are compared with: a generator of bare Flask that sleeps and yields."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, request

from bench.ticking import stamp, tell_usage

application = Flask(__name__)
application.add_url_rule("/bench", view_func=tell_usage)


@application.get("/stream")
def stream() -> Response:
    """Yield ``ticks`` events, one every ``every`` milliseconds."""
    ticks, every_s = int(request.args["ticks"]), int(request.args["every"]) / 1000

    def generate() -> Iterator[str]:
        due = time.monotonic() + every_s * (id(ticks) % 997) / 997
        for number in range(ticks):
            time.sleep(max(0.0, due - time.monotonic()))
            yield f'data: {{"type":"plain","data":"{stamp()}"}}\nid: {number}\n\n'
            due += every_s

    return Response(generate(), content_type="text/event-stream")
