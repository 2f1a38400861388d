"""Chunked bodies: tiny chunks are read slowly without blocking others."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.unreader import IterUnreader
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from astrbot_api.http import request_body


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits during the test. The clock stands still."""
    times: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=times.append)
    monkeypatch.setattr(request_body, "time", clock)
    return times


def read(chunk: bytes, count: int) -> bytes:
    """Read a chunked body as gunicorn passes it to a view."""
    line = b"%x\r\n%s\r\n" % (len(chunk), chunk)
    sent: Any = IterUnreader(iter([line * count, b"0\r\n\r\n"]))
    body = Body(ChunkedReader(SimpleNamespace(), sent))
    builder = EnvironBuilder(method="POST", headers={"Transfer-Encoding": "chunked"})
    environ = {**builder.get_environ(), "wsgi.input": body, "wsgi.input_terminated": True}
    environ.pop("CONTENT_LENGTH", None)
    request_body.limit_silence(Request(environ))  # type: ignore[arg-type]
    return b"".join(iter(lambda: body.read(64 * 1024), b""))


def test_many_small_chunks_wait(slept: list[float]) -> None:
    assert read(b"ab", 10_000) == b"ab" * 10_000
    assert sum(slept) == pytest.approx(10_000 / 256 * 0.05, rel=0.1)


@pytest.mark.parametrize(("chunk", "count"), [(b"ab", 200), (b"a" * 300, 2_000)])
def test_few_chunks_and_large_ones_do_not_wait(
    slept: list[float], chunk: bytes, count: int
) -> None:
    assert read(chunk, count) == chunk * count
    assert slept == []


def test_a_body_with_a_length_is_left_alone() -> None:
    body = io.BytesIO(b"a")
    environ = EnvironBuilder(method="POST", input_stream=body).get_environ()
    request_body.limit_silence(Request(environ))  # type: ignore[arg-type]
    assert environ["wsgi.input"] is body
