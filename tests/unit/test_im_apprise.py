"""Notification services through Apprise, with its JSON service."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug import Response

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.errors import SettingsError
from astrbot_api.im.adapter import Adapter
from astrbot_api.im.apprise import write_html
from astrbot_api.im.markdown import read_markdown
from astrbot_api.testing.fake_platform import FakePlatform, FakeRequest
from tests.im_platforms import DOCUMENT, PDF, Outbox, make_file, make_request, open_adapter

#: For modules of other services that Apprise loads.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class FakeService(FakePlatform):
    """Receives notifications of ``json://`` and ``form://``."""

    def answer(self, request: FakeRequest) -> Response:
        self.accept(json.loads(request.data))
        return Response(status=200)


@pytest.fixture
def fake() -> Iterator[FakeService]:
    with FakeService() as fake:
        yield fake


@pytest.fixture
def address(fake: FakeService) -> str:
    return fake.url.replace("http://", "json://bot:pass-word@") + "/in"


@pytest.fixture
def adapter(address: str) -> Iterator[Adapter]:
    with open_adapter("apprise", url=address, urls={"ops": address}) as adapter:
        yield adapter


@pytest.fixture
def outbox(adapter: Adapter) -> Outbox:
    return Outbox(adapter)


@pytest.mark.parametrize("session", ["default", "ops"])
def test_text_arrives_at_the_service_of_the_session(
    fake: FakeService, outbox: Outbox, session: str
) -> None:
    outbox.send("Hello", to=session, type="OtherMessage")
    [message] = fake.wait_for_messages(1)
    assert message["message"] == "Hello"
    assert fake.requests[0].headers["authorization"].startswith("Basic ")
    assert outbox.steps == [(1, 0)]


def test_a_file_arrives_as_an_attachment(fake: FakeService, outbox: Outbox) -> None:
    outbox.send("See", DOCUMENT, to="default")
    _, message = fake.wait_for_messages(2)
    [attachment] = message["attachments"]
    assert attachment["filename"] == "报告.pdf"
    assert base64.b64decode(attachment["base64"]) == PDF
    assert outbox.steps == [(1, 0), (1, 0)]


def test_a_long_text_arrives_in_pieces_that_are_reported(fake: FakeService, outbox: Outbox) -> None:
    outbox.send("word " * 13_000, to="default")
    assert len(fake.messages) == 3
    assert [step[0] for step in outbox.steps] == [0, 0, 1]


def test_an_unknown_session_is_a_final_error(outbox: Outbox) -> None:
    with pytest.raises(PlatformError, match="Its sessions are: default, ops") as caught:
        outbox.send("Hello", to="other")
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("status", "retryable"), [(500, True), (503, True), (429, True), (404, False), (302, False)]
)
def test_statuses_are_retried_or_final(
    fake: FakeService, outbox: Outbox, status: int, retryable: bool
) -> None:
    fake.fail_next(status)
    with pytest.raises(PlatformError, match=f"JSON answered {status}") as caught:
        outbox.send("Hello", to="default")
    assert caught.value.retryable is retryable
    assert not fake.messages


def test_connection_refused_is_retryable_and_shows_no_secret(
    fake: FakeService, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    fake.refuse()
    with caplog.at_level(logging.DEBUG), pytest.raises(PlatformError) as caught:
        outbox.send("Hello", to="default")
    assert caught.value.retryable
    assert "pass-word" not in str(caught.value) + caplog.text


def test_too_large_files_are_refused_before_they_are_read(fake: FakeService, address: str) -> None:
    with open_adapter("apprise", url=address, max_file_mb=1) as adapter:
        large = make_file("file", "x.bin", "x/y", bytes(1024 * 1024 + 1))
        with pytest.raises(PlatformError, match="max_file_mb"):
            Outbox(adapter).send(large, to="default")
    assert not fake.requests


def test_nothing_comes_in(adapter: Adapter) -> None:
    assert adapter.receive(make_request({}, b"{}")).status == 405


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "url: required"),
        ({"url": "nosuch://token-of-mine@host"}, "Apprise does not support the URL of default"),
        ({"urls": {"a b": "json://h"}}, "urls"),
    ],
)
def test_wrong_settings_are_named_without_the_url(
    settings: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SettingsError, match=words) as caught, open_adapter("apprise", **settings):
        pass
    assert "token-of-mine" not in str(caught.value) + caplog.text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["[", "![", "[a](", "[a][b", "<a ", "`` `", "> ", "*a ", "_a"])
def test_html_of_a_long_text_takes_a_moment(unit: str) -> None:
    write_html(read_markdown(unit * (30_000 // len(unit))))


def test_html_has_the_formatting_and_no_tags_of_the_text() -> None:
    rich = read_markdown("a **b *c*** [d](https://e.example/?f=1&g=2)\n\n`<h>`\n\n> i")
    found = write_html(rich)
    assert "<b>b <i>c</i></b>" in found
    assert '<a href="https://e.example/?f=1&amp;g=2">d</a>' in found
    assert "<code>&lt;h&gt;</code>" in found
    assert '<b><a href="/x">j</a></b>' in write_html(read_markdown("**[j](/x)**"))
    assert "<blockquote>i</blockquote>" in found
