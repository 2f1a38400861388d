"""One line a request, without what came in the query: a key may stand there."""

from __future__ import annotations

import logging
import time

from flask import Request, Response, g

from .envelope import get_request_id
from .state import get_state

log = logging.getLogger("astrbot_api.access")

#: Where the time at which the request began stands in its environment.
STARTED_KEY = "astrbot_api.started"


def log_request(request: Request, response: Response) -> None:
    """Write method, path, status, time to the answer's head, key prefix and request id.

    A stream's line comes when it begins; its end is its run's business.
    """
    if not log.isEnabledFor(logging.INFO) or not get_state().settings.access_log:
        return
    caller = g.get("astrbot_api_caller")
    started = request.environ.get(STARTED_KEY, time.perf_counter())
    log.info(
        "%s %s %d %.1fms key=%s request=%s",
        request.method,
        # A path is the caller's text: it must not forge a line of its own.
        request.path.encode("unicode_escape").decode(),
        response.status_code,
        (time.perf_counter() - started) * 1000,
        caller.key_prefix if caller else "-",
        get_request_id(),
    )
