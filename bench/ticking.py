"""The server with a model whose tokens contain their creation time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from flask import Flask, request

from astrbot_api import AstrBotAPI, create_app
from astrbot_api.agent.provider import Delta, ModelMessage, ModelOptions, TextDelta, ToolSpec
from bench.source import Gate, iter_tokens

_GATE = Gate()


class Ticking:
    """Model that yields the tokens of :func:`bench.source.iter_tokens`."""

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        for token in iter_tokens(messages[-1]["content"], _GATE):
            # Not cancel.wait(): a gevent.Timeout per token costs more than the token.
            options.cancel.raise_if_cancelled()
            yield TextDelta(token)


def create() -> Flask:
    """Return the application, with routes that open the gate and count transactions."""
    app = create_app(api=AstrBotAPI(providers={"mock": Ticking()}))
    journal: Any = app.extensions["astrbot_api"].worker.journal
    counter = _Counter(journal.append)
    journal.append = counter
    app.add_url_rule("/bench/transactions", view_func=lambda: {"count": counter.count})
    app.add_url_rule("/bench/go", view_func=_go)
    return app


def _go() -> str:
    _GATE.open(float(request.args["seconds"]))
    return "ok"


class _Counter:
    """Counts the transactions that append to the journal."""

    def __init__(self, append: Any) -> None:
        self._append = append
        self._lock = threading.Lock()
        self.count = 0

    def __call__(self, pieces: Any) -> Any:
        with self._lock:
            self.count += 1
        return self._append(pieces)
