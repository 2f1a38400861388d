"""Transfer, failure and cancellation of endpoints' responses."""

from __future__ import annotations

import email.utils
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import Delta, Finished, TextDelta, ToolCallDelta
from astrbot_api.config.agents import ProviderConfig
from astrbot_api.errors import ProviderError, RunCancelled
from astrbot_api.providers import answer, failures
from astrbot_api.providers.openai import OpenAIProvider
from astrbot_api.testing.fake_openai import FakeOpenAI

from .openai_asking import (
    HELLO,
    KEY,
    TOOL,
    ImpatientCancellation,
    answer_to,
    ask,
    begin,
    failure_of,
    provider_of,
    text_of,
)
from .raw_endpoint import (
    CHUNKED,
    DONE,
    OK_EVENTS,
    PATIENCE_S,
    Connection,
    RawEndpoint,
    answering,
    event,
)


@pytest.fixture
def fake(fake_model: FakeOpenAI) -> FakeOpenAI:
    fake_model.reset()
    return fake_model


# -- transfer ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chunked", "with a length", "until the end"])
def test_each_token_is_there_before_the_next_one_is_sent(kind: str) -> None:
    tokens = [event({"content": str(n)}) for n in range(5)]
    taken = threading.Semaphore(0)

    def handle(connection: Connection) -> None:
        connection.read_request()
        head, send = {
            "chunked": (CHUNKED, connection.send_chunk),
            "with a length": (
                OK_EVENTS + b"Content-Length: %d\r\n\r\n" % len(b"".join((*tokens, DONE))),
                connection.send,
            ),
            "until the end": (OK_EVENTS + b"Connection: close\r\n\r\n", connection.send),
        }[kind]
        connection.send(head)
        for token in tokens:
            send(token)
            assert taken.acquire(timeout=PATIENCE_S)
        send(DONE)
        if kind == "chunked":
            connection.send(b"0\r\n\r\n")

    with RawEndpoint(handle) as endpoint:
        came = list(_release_each(begin(provider_of(endpoint)), taken))
    assert came[:5] == [TextDelta(str(number)) for number in range(5)]


def _release_each(stream: Iterator[Delta], taken: threading.Semaphore) -> Iterator[Delta]:
    for delta in stream:
        taken.release()
        yield delta


def test_answer_is_the_same_byte_by_byte() -> None:
    stream = "".join(
        f'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\r\n\r\n'
        for text in ("grüße", " 😀", " ")
    ).encode()

    def handle(connection: Connection) -> None:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.read_request()
        connection.send(CHUNKED)
        for byte in stream + DONE:
            connection.send_chunk(bytes([byte]))
        connection.send(b"0\r\n\r\n")

    with RawEndpoint(handle) as endpoint:
        assert text_of(ask(provider_of(endpoint))) == "grüße 😀 "


def test_connection_of_a_whole_answer_is_used_again() -> None:
    with RawEndpoint(answering(*HELLO)) as endpoint:
        provider = provider_of(endpoint)
        for _ in range(3):
            assert text_of(ask(provider)) == "Hello"
        assert endpoint.connections == 1


def test_kept_connection_that_the_endpoint_closed_is_no_failure() -> None:
    def handle_one(connection: Connection) -> None:
        connection.read_request()
        connection.send_stream(*HELLO)
        # Too late for the client to notice before it sends.
        connection.read_request()

    cancel = ImpatientCancellation()
    with RawEndpoint(handle_one, handle_one, answering(*HELLO)) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        for _ in range(3):
            assert text_of(ask(provider, cancel=cancel)) == "Hello"
        assert endpoint.connections == 3
    assert cancel.waits == []


def test_answer_without_the_end_of_its_body_costs_only_the_connection() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        connection.send_chunk(b"".join(HELLO))
        assert connection.wait_until_closed()

    with RawEndpoint(handle, answering(*HELLO)) as endpoint:
        provider = provider_of(endpoint)
        assert ask(provider) == [TextDelta("Hello")]
        assert ask(provider) == [TextDelta("Hello")]
        assert endpoint.connections == 2


def test_closing_the_stream_closes_the_connection() -> None:
    closed = threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        connection.send_chunk(HELLO[0])
        if connection.wait_until_closed():
            closed.set()

    with RawEndpoint(handle) as endpoint:
        stream = begin(provider_of(endpoint))
        assert next(stream) == TextDelta("Hello")
        stream.close()  # type: ignore[attr-defined]
        assert closed.wait(PATIENCE_S)


# -- failures ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "The model's endpoint refused the request (HTTP 400)."),
        (401, "The model's endpoint refused the server's credentials (HTTP 401)."),
        (403, "The model's endpoint denied access (HTTP 403)."),
        (404, "The model's endpoint refused the request (HTTP 404)."),
        (409, "The model's endpoint refused the request (HTTP 409)."),
        (429, "The model's endpoint is rate limited (HTTP 429); try again later."),
        (500, "The model's endpoint answered with an error (HTTP 500)."),
        (503, "The model's endpoint answered with an error (HTTP 503)."),
    ],
)
def test_status_becomes_a_sentence_and_is_tried_again_only_if_it_may_pass(
    fake: FakeOpenAI, status: int, message: str
) -> None:
    passing = status in (409, 429, 500, 503)
    error = failure_of(provider_of(fake, max_retries=2), f"FAIL={status}")
    assert error.message.startswith(message.rstrip("."))
    assert error.retryable == passing
    assert fake.stats()["requests"] == (3 if passing else 1)


def test_passing_failure_is_tried_again_after_growing_pauses(fake: FakeOpenAI) -> None:
    cancel = ImpatientCancellation()
    failure_of(provider_of(fake, max_retries=6), "FAIL=502", cancel=cancel)
    least_s = [0.5, 1, 2, 4, 8, 8]
    assert all(a <= b <= min(8, 1.25 * a) for a, b in zip(least_s, cancel.waits, strict=True))
    assert fake.stats()["requests"] == 7


def test_second_try_may_succeed(fake: FakeOpenAI) -> None:
    assert text_of(ask(provider_of(fake), "ECHO FAILONCE=503")) == "echo: ECHO FAILONCE=503"


def refusing(status: int, headers: str) -> Any:
    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            connection.send_json(status, {}, headers)

    return handle


def test_endpoint_that_asks_for_seconds_is_given_them() -> None:
    cancel = ImpatientCancellation()
    with RawEndpoint(refusing(429, "Retry-After: 7\r\n")) as endpoint:
        error = failure_of(provider_of(endpoint, max_retries=1), cancel=cancel)
    assert cancel.waits == [7.0]
    assert error.retry_after_s == 7.0


def test_endpoint_that_asks_for_a_moment_is_waited_for_until_then() -> None:
    cancel = ImpatientCancellation()
    moment = email.utils.formatdate(time.time() + 20, usegmt=True)
    with RawEndpoint(refusing(503, f"Retry-After: {moment}\r\n")) as endpoint:
        failure_of(provider_of(endpoint, max_retries=1), cancel=cancel)
    assert 0 < cancel.waits[0] <= 20


def test_endpoint_that_asks_for_too_long_is_not_waited_for() -> None:
    cancel = ImpatientCancellation()
    with RawEndpoint(refusing(429, "Retry-After: 31\r\n")) as endpoint:
        error = failure_of(provider_of(endpoint, max_retries=5), cancel=cancel)
    assert cancel.waits == []
    assert (error.retryable, error.retry_after_s) == (True, 31.0)


def test_redirect_is_not_followed() -> None:
    with RawEndpoint(answering(*HELLO)) as other:
        location = f"Location: {other.base_url}/chat/completions\r\n"
        with RawEndpoint(refusing(307, location)) as endpoint:
            error = failure_of(provider_of(endpoint))
        assert other.connections == 0
    assert error.message == (
        "The model's endpoint answered with a redirect (HTTP 307), which is not followed: set "
        "base_url in the config to the address it leads to."
    )


def test_key_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    heads: list[str] = []

    def handle(connection: Connection) -> None:
        heads.append(connection.read_request()[0])
        told = f"x Bearer {KEY} and {KEY}, sk-proj-abc_DEF-123, Bearer other.key!"
        connection.send_json(401, {"error": {"message": told, "hint": "ask the owner"}})

    with caplog.at_level(logging.DEBUG), RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint))
        told = f"{error!r} {error.message} {caplog.text} {provider_of(endpoint)!r}"
    assert f"Authorization: Bearer {KEY}\r\n" in heads[0]
    for secret in (KEY, "sk-proj", "abc_DEF", "other.key"):
        assert secret not in told
    assert "HTTP 401" in caplog.text
    assert "ask the owner" in caplog.text
    assert "ask the owner" not in error.message


@pytest.mark.parametrize("keys", [(), ("some-key",)])
def test_a_login_in_the_address_is_sent_if_there_is_no_key(
    keys: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[str] = []

    def answer(connection: Connection) -> None:
        for head, _ in connection.iter_requests():
            heads.append(head)
            connection.send_json(401, {"error": "pass: w@rd-1"})

    with RawEndpoint(answer) as endpoint:
        url = endpoint.base_url.replace("http://", "http://me:w%40rd-1@")
        config = ProviderConfig("p", "openai", base_url=url, model="m", api_keys=keys)
        error = failure_of(OpenAIProvider(config))
    sent = "Bearer some-key" if keys else f"Basic {b64encode(b'me:w@rd-1').decode()}"
    assert re.findall(r"(?i)authorization: (.*)\r", heads[0]) == [sent]
    assert "w@rd-1" not in caplog.text + error.message


def test_log_holds_only_the_beginning_of_what_the_endpoint_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send_json(400, "line\n" * 100_000)

    with RawEndpoint(handle) as endpoint:
        failure_of(provider_of(endpoint))
    (record,) = caplog.records
    assert len(record.getMessage()) < 700
    assert "\n" not in record.getMessage()


def test_unreachable_endpoint_is_tried_again_and_then_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    cancel = ImpatientCancellation()
    error = failure_of(provider_of(f"http://127.0.0.1:{port}/v1"), cancel=cancel)
    assert error.message == failures.UNREACHABLE
    assert error.retryable
    assert len(cancel.waits) == 2


def test_connection_closed_without_an_answer_is_tried_again() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()

    with RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint, max_retries=1))
        assert endpoint.connections == 2
    assert error.message == "The model's endpoint closed the connection without an answer."


@pytest.mark.parametrize("key", ["ключ", "sk-one\nsk-two"])
def test_a_key_that_no_header_can_have_is_named_and_not_tried_again(
    fake: FakeOpenAI, key: str
) -> None:
    config = ProviderConfig("test", "openai", base_url=fake.base_url, model="some-model")
    cancel = ImpatientCancellation()
    error = failure_of(OpenAIProvider(config, api_key=key), cancel=cancel)
    assert "in the config has a character that HTTP forbids" in error.message
    assert key not in error.message
    assert not cancel.waits
    assert text_of(ask(provider_of(fake))) == "Hello from mock.", "the connections stay in order"


def test_white_space_around_a_key_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "sk-from-a-file\n")
    config = ProviderConfig("test", api_key_env="KEY_OF_TEST", api_keys=(" sk-second ",))
    assert config.resolve_api_keys() == ("sk-from-a-file", "sk-second")


@pytest.mark.parametrize("begins", [False, True])
def test_silence_ends_after_the_time_out_and_is_not_tried_again(begins: bool) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        if begins:
            connection.send(CHUNKED)
            connection.send_chunk(HELLO[0])
        assert connection.wait_until_closed()

    with RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint, read_timeout_s=0.25))
        assert endpoint.connections == 1
    assert error.message == "The model's endpoint did not answer within 0.25 s."


def test_a_refusal_that_arrives_byte_by_byte_ends_after_the_time_out() -> None:
    def drip(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000\r\n\r\n")
        while not connection.wait_readable(0.05):
            connection.send(b"x")

    with RawEndpoint(drip) as endpoint:
        error = failure_of(provider_of(endpoint, read_timeout_s=0.25))
        assert error.message.startswith("The model")
        assert endpoint.connections == 1


#: What endpoints send while a model does not answer yet.
KEEP_ALIVES = [
    b": OPENROUTER PROCESSING\n\n",
    b"\n",
    event({"role": "assistant", "content": ""}),
    b'data: {"choices": []}\n\n',
]


@pytest.mark.parametrize("keep_alive", KEEP_ALIVES)
def test_keep_alives_without_content_end_an_answer_after_a_while(
    monkeypatch: pytest.MonkeyPatch, keep_alive: bytes
) -> None:
    monkeypatch.setattr(answer, "_EMPTY_TIMES", 0.01)
    closed = threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        while not connection.wait_readable(0.01):
            connection.send_chunk(keep_alive)
        closed.set()

    with RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint, read_timeout_s=10))
        assert closed.wait(PATIENCE_S)
        assert endpoint.connections == 1, "no retry: the endpoint may still be working"
    assert error.message == "The model's endpoint kept the answer open for 0.1 s without content."


def test_keep_alives_let_a_model_think_for_longer_than_the_read_timeout() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        for _ in range(6):
            assert not connection.wait_readable(0.1), "the client does not give up"
            connection.send_chunk(KEEP_ALIVES[0])
        connection.send_chunk(b"".join(HELLO))
        connection.send(b"0\r\n\r\n")

    with RawEndpoint(handle) as endpoint:
        assert text_of(ask(provider_of(endpoint, read_timeout_s=0.5))) == "Hello"


def test_a_tool_call_in_pieces_is_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_EMPTY_TIMES", 0.01)
    call = {"index": 0, "id": "one", "function": {"name": "look", "arguments": '{"at": "'}}

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        connection.send_chunk(event({"tool_calls": [call]}))
        for _ in range(6):
            assert not connection.wait_readable(0.03), "the client does not give up"
            piece = {"index": 0, "function": {"arguments": "x"}}
            connection.send_chunk(event({"tool_calls": [piece]}))
        end = {"index": 0, "function": {"arguments": '"}'}}
        connection.send_chunk(event({"tool_calls": [end]}) + event({}, "tool_calls") + DONE)
        connection.send(b"0\r\n\r\n")

    with RawEndpoint(handle) as endpoint:
        (found,) = ask(provider_of(endpoint, read_timeout_s=10), tools=(TOOL,))
    assert isinstance(found, ToolCallDelta)
    assert found.arguments == '{"at": "xxxxxx"}'


def test_keep_alives_after_the_finish_reason_do_not_hold_an_answer() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        connection.send_chunk(b"".join(HELLO[:2]))
        while not connection.wait_readable(0.01):
            connection.send_chunk(KEEP_ALIVES[0])

    with RawEndpoint(handle) as endpoint:
        assert text_of(ask(provider_of(endpoint, read_timeout_s=0.1))) == "Hello"


def test_broken_answer_is_reported_after_what_came(fake: FakeOpenAI) -> None:
    stream = begin(provider_of(fake), "DROP=2 DELAY=1")
    assert [next(stream), next(stream)] == [TextDelta("Hello"), TextDelta(" from")]
    with pytest.raises(ProviderError) as caught:
        next(stream)
    assert caught.value.message == "The model's endpoint broke off the answer."
    assert fake.stats()["requests"] == 1


def test_stream_that_merely_ends_was_broken_off() -> None:
    with pytest.raises(ProviderError, match="broke off"):
        answer_to(HELLO[0])


def test_finished_answer_needs_no_end_mark() -> None:
    assert answer_to(*HELLO[:2]) == [TextDelta("Hello")]


def test_finished_answer_is_whole_though_its_connection_breaks() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(CHUNKED)
        connection.send_chunk(b"".join(HELLO[:2]))

    with RawEndpoint(handle) as endpoint:
        assert ask(provider_of(endpoint)) == [TextDelta("Hello")]


def test_answer_with_nothing_in_it_is_a_failure(fake: FakeOpenAI) -> None:
    error = failure_of(provider_of(fake), "EMPTY")
    assert error.message == "The model's endpoint answered nothing."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"error": {"message": "no luck"}}', "answered with an error: no luck"),
        (b'{"error": {"code": 429}}', "is rate limited (HTTP 429); try again later."),
        (b'{"object": "error", "message": "x"}', "answered with an error: x"),
    ],
)
def test_fault_inside_a_stream_is_reported(data: bytes, message: str) -> None:
    with pytest.raises(ProviderError) as caught:
        answer_to(HELLO[0], b"data: " + data + b"\n\n")
    assert caught.value.message == f"The model's endpoint {message}"


@pytest.mark.parametrize("data", [b'{"choices": [', b"[1]", b"\xff\xfe", b"nonsense", b'"text"'])
def test_bad_chunk_costs_itself_and_not_the_answer(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bad = b"data: " + data + b"\n\n"
    assert answer_to(HELLO[0], bad, event({"content": "!"}), *HELLO[1:]) == [
        TextDelta("Hello"),
        TextDelta("!"),
    ]
    assert "sent unexpected data" in caplog.text


@pytest.mark.parametrize("data", [b'{"choices": [', b"[1]", b"\xff\xfe"])
def test_answer_of_bad_chunks_alone_is_a_failure(data: bytes) -> None:
    with RawEndpoint(answering(b"data: " + data + b"\n\n", DONE)) as endpoint:
        error = failure_of(provider_of(endpoint, max_retries=0))
    assert error.message == "The model's endpoint sent something that is not valid JSON."


def test_web_page_in_place_of_an_answer_hints_at_the_address() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
                        b"Content-Length: 2\r\n\r\nhi")  # fmt: skip

    with RawEndpoint(handle) as endpoint:
        assert "its address in the config" in failure_of(provider_of(endpoint)).message


# -- cancellation ------------------------------------------------------------


def test_cancelled_run_does_not_ask(fake: FakeOpenAI) -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        ask(provider_of(fake), cancel=cancel)
    assert fake.stats()["requests"] == 0


@pytest.mark.parametrize("begins", [False, True], ids=["before the head", "in the answer"])
def test_cancellation_ends_a_blocked_read_and_closes_the_connection(begins: bool) -> None:
    cancel = Cancellation()
    closed = threading.Event()

    def handle(connection: Connection) -> None:
        connection.read_request()
        if begins:
            connection.send(CHUNKED)
            connection.send_chunk(HELLO[0])
        cancel.cancel("interrupted")
        if connection.wait_until_closed():
            closed.set()

    with RawEndpoint(handle) as endpoint:
        with pytest.raises(RunCancelled) as caught:
            ask(provider_of(endpoint), cancel=cancel)
        assert closed.wait(PATIENCE_S)
    assert caught.value.reason == "interrupted"


def test_cancellation_ends_a_pause_between_two_tries(fake: FakeOpenAI) -> None:
    class CancelledInThePause(Cancellation):
        def wait(self, timeout_s: float) -> bool:
            self.cancel()
            return super().wait(timeout_s)

    with pytest.raises(RunCancelled):
        ask(provider_of(fake, max_retries=9), "FAIL=500", cancel=CancelledInThePause())
    assert fake.stats()["requests"] == 1


def test_cancellation_after_the_answer_does_not_harm_the_next_one() -> None:
    with RawEndpoint(answering(*HELLO)) as endpoint:
        provider = provider_of(endpoint)
        cancel = Cancellation()
        assert text_of(ask(provider, cancel=cancel)) == "Hello"
        stream = begin(provider)
        assert next(stream) == TextDelta("Hello")
        cancel.cancel()
        assert all(isinstance(one, Finished) for one in stream)
        assert endpoint.connections == 1


def test_hundred_streams_run_side_by_side_in_threads(fake: FakeOpenAI) -> None:
    provider = provider_of(fake)
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(text_of(ask(provider, "FIRST=300"))))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert texts == ["Hello from mock."] * 100


GEVENT_SCRIPT = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from gevent.event import Event
from gevent.server import StreamServer
from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import ModelOptions, TextDelta
from astrbot_api.config.agents import ProviderConfig
from astrbot_api.errors import RunCancelled
from astrbot_api.providers import answer
from astrbot_api.providers.openai import OpenAIProvider

def ask(base_url, message, cancel):
    config = ProviderConfig("test", "openai", base_url=base_url, model="m")
    provider = OpenAIProvider(config, api_key="")
    question = [{"role": "user", "content": message}]
    return list(provider.stream(question, [], ModelOptions(cancel)))

def text_of(deltas):
    return "".join(one.text for one in deltas if isinstance(one, TextDelta))

asked, closed = Event(), Event()

def be_silent(sock, address):
    sock.recv(65536)
    asked.set()
    if sock.recv(65536) == b"":
        closed.set()

with gevent.Timeout(60):
    jobs = [gevent.spawn(ask, sys.argv[1], "FIRST=500 N=4", Cancellation()) for _ in range(50)]
    gevent.joinall(jobs, raise_error=True)
    assert {text_of(job.value) for job in jobs} == {"tok0 tok1 tok2 tok3"}
    server = StreamServer(("127.0.0.1", 0), be_silent)
    server.start()
    cancel = Cancellation()
    def run():
        try:
            ask(f"http://127.0.0.1:{server.server_port}/v1", "hi", cancel)
        except RunCancelled as error:
            return error.reason
    job = gevent.spawn(run)
    asked.wait()
    cancel.cancel("stopped")
    assert job.get() == "stopped"
    closed.wait()
    server.stop()
print("fine")
"""


def test_greenlets_stream_side_by_side_and_can_be_cancelled(fake: FakeOpenAI) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GEVENT_SCRIPT, fake.base_url],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
    assert fake.stats()["max_open"] == 50
