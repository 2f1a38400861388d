"""``examples/client_stream.py``, the client of the quick start."""

from __future__ import annotations

import http.client
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.serving import make_server

from .conftest import Api

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "client_stream.py"


@pytest.fixture
def example(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names of the example, with a server for its requests."""
    server = make_server("127.0.0.1", 0, api.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("KEY", api.key)
    names = runpy.run_path(str(EXAMPLE))
    names["ask"].__globals__["time"] = SimpleNamespace(sleep=lambda seconds: None)
    yield names
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_example_resumes_a_broken_stream(example: dict[str, Any]) -> None:
    names = example["ask"].__globals__
    open_stream = names["open_stream"]
    asked: list[tuple[Any, ...]] = []

    def break_first(*arguments: Any) -> Iterator[bytes]:
        asked.append(arguments)
        with open_stream(*arguments) as stream:
            for count, line in enumerate(stream):
                if len(asked) == 1 and count == 13:  # after the first piece of the answer
                    raise http.client.IncompleteRead(b"")
                yield line

    names["open_stream"] = break_first
    assert "".join(example["ask"]("Hello")) == "Hello from mock."
    assert [arguments[-1] for arguments in asked[1:]] == ["4"]


@pytest.mark.parametrize(
    ("message", "environ", "reason"),
    [
        ("Hello", {"KEY": "abk_wrong"}, "Invalid API key"),
        ("Hello", {"URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1/api/v1: .*refused"),
        ("FAIL=429", {}, "HTTP 429"),
    ],
)
def test_the_example_prints_why_it_got_no_answer(
    example: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    environ: dict[str, str],
    reason: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", [str(EXAMPLE), message])
    with pytest.raises(SystemExit, match=reason):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
