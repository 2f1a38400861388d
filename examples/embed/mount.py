"""Mount a Flask application, such as the shop, in an ASGI application.

::

    uvicorn --factory examples.embed.mount:create_app
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask

from examples.embed.shop import create_shop


class MountedFlask(WSGIMiddleware):
    """Serves a Flask application and ends the streams of clients that leave.

    a2wsgi alone keeps them open. The inbox never ends, so it would keep its thread for good.
    """

    def __init__(self, app: Flask, workers: int = 64) -> None:  # one thread per open stream
        super().__init__(self._call, workers)
        self._flask = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = threading.Event()
        watches = []

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async def send_and_watch(message: Any) -> None:
            # The bodies of these requests have been read.
            if dict(message.get("headers", ())).get(b"x-accel-buffering") == b"no":
                watches.append(asyncio.create_task(watch()))
            await send(message)

        await super().__call__({**scope, "gone": gone}, receive, send_and_watch)

    def _call(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        environ["wsgi.input_terminated"] = True  # a2wsgi ends chunked bodies without saying so
        gone = environ["asgi.scope"]["gone"]
        with closing(self._flask(environ, start_response)) as pieces:
            yield from takewhile(lambda _: not gone.is_set(), pieces)


def create_app() -> MountedFlask:
    """Create the shop as an ASGI application. In FastAPI: ``api.mount("/shop", create_app())``."""
    return MountedFlask(create_shop())
