"""One line a request, without what came in the query: a key may stand there."""

from __future__ import annotations

import time

from flask import Request, Response

from .auth import CALLER_KEY
from .envelope import get_request_id
from .state import get_state

#: Where the time at which the request began stands in its environment.
STARTED_KEY = "astrbot_api.started"


def log_request(request: Request, response: Response) -> None:
    """Write method, path, status, time to the answer's head, key prefix and request id.

    A stream's line comes when it begins; its end is its run's business.
    """
    state = get_state()
    if not state.settings.access_log:
        return
    environ = request.environ
    caller = environ.get(CALLER_KEY)
    path = request.path
    if not path.isascii() or not path.isprintable() or " " in path:
        # A path is the caller's text: it must not forge a field or a line.
        path = path.encode("unicode_escape").decode().replace(" ", "%20")
    state.access_log(
        f"request method={request.method} path={path} status={response.status_code}"
        f" ms={(time.perf_counter() - environ[STARTED_KEY]) * 1000:.1f}"
        f" key={caller.key_prefix if caller else '-'} id={get_request_id()}"
    )
