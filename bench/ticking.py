"""The server with a model that says the time, so that each token tells how old it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, create_app
from astrbot_api.agent.provider import Delta, ModelMessage, ModelOptions, TextDelta, ToolSpec

CONFIG = """\
name = "default"
[provider]
id = "ticking"
type = "mock"
[agent]
titles = false
system_prompt = ""
"""


def stamp() -> str:
    """Return the time on the clock that all processes of a machine share, as a token."""
    return f"T{time.monotonic_ns()};"


class Ticking:
    """Says ``TICKS=count`` tokens, one every ``EVERY=ms``."""

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        words = dict(word.split("=") for word in messages[-1]["content"].split())
        every_s = int(words["EVERY"]) / 1000
        due = time.monotonic() + every_s * (id(options) % 997) / 997  # not all at once
        for _ in range(int(words["TICKS"])):
            # Not cancel.wait(): a gevent.Timeout a token costs more than the token.
            time.sleep(max(0.0, due - time.monotonic()))
            options.cancel.raise_if_cancelled()
            yield TextDelta(stamp())
            due += every_s


def write_config(folder: Path) -> None:
    """Write the config that has this model answer."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "default.toml").write_text(CONFIG, encoding="utf-8")


def create() -> Flask:
    """Return the application, with a route that tells what its worker has used."""
    extension = AstrBotAPI(providers={"ticking": Ticking()})
    app = create_app(api=extension)
    journal: Any = app.extensions["astrbot_api"].journal
    counter = _Counter(journal.append)
    journal.append = counter
    app.add_url_rule("/bench", view_func=lambda: {**tell_usage(), "transactions": counter.count})
    return app


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


def tell_usage() -> dict[str, float]:
    """Return this process's time on the processor and its memory."""
    times = os.times()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "cpu_s": times.user + times.system,
        "rss_kb": pages * os.sysconf("SC_PAGE_SIZE") / 1024,
        "at_s": time.monotonic(),
    }
