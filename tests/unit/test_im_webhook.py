"""Webhook bots: signed messages in both directions."""

from __future__ import annotations

import base64
import json
import re
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.deliveries.signing import TOLERANCE_S, is_secret, sign, verify
from astrbot_api.errors import SettingsError
from astrbot_api.im.adapter import Adapter, BadSignature, Reception
from astrbot_api.testing import FakeWebhookReceiver
from tests.im_platforms import (
    DOCUMENT,
    PDF,
    PICTURE,
    PNG,
    Outbox,
    make_file,
    make_request,
    open_adapter,
)
from tests.unit.raw_endpoint import Connection, RawEndpoint


@pytest.fixture
def fake() -> Iterator[FakeWebhookReceiver]:
    with FakeWebhookReceiver() as fake:
        yield fake


@pytest.fixture
def adapter(fake: FakeWebhookReceiver) -> Iterator[Adapter]:
    with open_adapter("webhook", url=fake.url + "/in?x=1", secret=fake.secret) as adapter:
        yield adapter


def receive(adapter: Adapter, fake: FakeWebhookReceiver, message: Any, **more: Any) -> Reception:
    return adapter.receive(make_request(*fake.make_request(message, **more)))


def test_the_standards_own_example_verifies() -> None:
    # Source: https://github.com/standard-webhooks/standard-webhooks, its tests
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    headers = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", body, now_s=1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert verify(secret, headers, body, now_s=1614265330) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_one_of_several_signatures_is_enough() -> None:
    headers = sign("s" * 16, "1", b"x")
    headers["webhook-signature"] = f"v1,AAAA v1a,BBBB {headers['webhook-signature']}"
    assert verify("s" * 16, headers, b"x") == "1"


@pytest.mark.parametrize(
    ("secret", "good"),
    [("short", False), ("s" * 16, True), ("whsec_###", False), ("whsec_", False)],
)
def test_a_secret_that_can_be_guessed_is_none(secret: str, good: bool) -> None:
    assert is_secret(secret) is good


# Sending


def test_a_message_arrives_whole_and_signed(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    outbox = Outbox(adapter)
    receipt = outbox.send("**Hi**", PICTURE, DOCUMENT, to="42", reply_to="m1", delivery_id="d7")
    [message] = fake.wait_for_messages(1)
    assert message["message"] == [
        {"type": "plain", "text": "**Hi**"},
        {"type": "image", "filename": "red.png", "mime": "image/png", "size_bytes": len(PNG),
         "bytes": PNG},
        {"type": "file", "filename": "报告.pdf", "mime": "application/pdf",
         "size_bytes": len(PDF), "bytes": PDF},
    ]  # fmt: skip
    assert (message["id"], message["bot_id"], message["session_id"]) == ("d7", "bot", "42")
    assert (message["message_type"], message["reply_to"]) == ("FriendMessage", "m1")
    assert receipt.platform_ids == ("m-d7",)
    assert outbox.steps == [(3, 0)]


def test_a_retry_bears_the_same_id_so_the_receiver_takes_it_once(
    fake: FakeWebhookReceiver, adapter: Adapter
) -> None:
    for _ in range(2):
        Outbox(adapter).send("Hi", to="42", delivery_id="d7")
    assert (len(fake.messages), fake.duplicates) == (1, 1)


def test_too_large_files_are_refused_before_they_are_read(fake: FakeWebhookReceiver) -> None:
    with open_adapter("webhook", url=fake.url, secret=fake.secret, max_file_mb=1) as adapter:
        large = make_file("file", "x.bin", "x/y", bytes(1024 * 1024 + 1))
        with pytest.raises(PlatformError, match="max_file_mb"):
            Outbox(adapter).send(large, to="42")
    assert not fake.requests


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(500, True), (503, True), (429, True), (408, True), (400, False), (410, False), (302, False)],
)
def test_statuses_are_retried_or_final(
    fake: FakeWebhookReceiver, adapter: Adapter, status: int, retryable: bool
) -> None:
    fake.fail_next(status, retry_after_s=4)
    with pytest.raises(PlatformError, match=f"answered {status}: .*failure") as caught:
        Outbox(adapter).send("Hi", to="42")
    assert (caught.value.retryable, caught.value.retry_after_s) == (retryable, 4.0)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("rest", [b"Content-Length: 100\r\n\r\n{", b"Content-Length: x\r\n\r\n"])
def test_a_message_is_sent_even_if_the_response_breaks_off(rest: bytes) -> None:
    def answer(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n" + rest)

    with (
        RawEndpoint(answer) as endpoint,
        open_adapter("webhook", url=endpoint.base_url, secret="s" * 16) as adapter,
    ):
        assert Outbox(adapter).send("Hi", to="42").platform_ids == ()


def test_connection_refused_is_retryable(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    fake.refuse()
    with pytest.raises(PlatformError) as caught:
        Outbox(adapter).send("Hi", to="42")
    assert caught.value.retryable


# Receiving


def test_a_message_is_read(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    reception = receive(
        adapter, fake, " Hello ", event_id="e1", sender_id="alice", sender_name="Alice",
        quoted="before",
    )  # fmt: skip
    assert (reception.status, reception.body) == (202, b'{"status":"accepted"}')
    [message] = reception.messages
    assert (message.event_id, message.message_type, message.session_id) == (
        "e1", "FriendMessage", "42",
    )  # fmt: skip
    assert (message.sender_id, message.sender_name) == ("alice", "Alice")
    assert (message.text, message.quoted, message.addressed) == ("Hello", "before", True)


def test_numbers_are_ids_and_null_is_absent(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    picture = {"type": "image", "filename": None, "data": base64.b64encode(PNG).decode()}
    nulls = dict.fromkeys(("type", "message_type", "sender_name", "addressed", "quoted"))
    body = {"session_id": 42, "sender_id": 7, "message_id": 9, "message": [picture], **nulls}
    raw = json.dumps(body).encode()
    [message] = adapter.receive(make_request(sign(fake.secret, "e1", raw), raw)).messages
    assert (message.session_id, message.sender_id, message.platform_message_id) == ("42", "7", "9")
    assert (message.message_type, message.sender_name) == ("FriendMessage", "")
    assert (message.addressed, message.quoted) == (True, None)
    assert message.files[0].filename == "file"


def test_pictures_and_files_come_in(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    segments = [
        {"type": "plain", "text": "What is it?"},
        {"type": "image", "filename": "a.png", "data": base64.b64encode(PNG).decode()},
    ]
    [message] = receive(adapter, fake, segments).messages
    [file] = message.files
    assert (message.text, file.type, file.filename) == ("What is it?", "image", "a.png")
    assert file.data == PNG


def test_a_group_may_say_that_the_bot_is_not_meant(
    fake: FakeWebhookReceiver, adapter: Adapter
) -> None:
    [message] = receive(adapter, fake, "Hi", message_type="GroupMessage", addressed=False).messages
    assert (message.message_type, message.addressed) == ("GroupMessage", False)


def test_a_wrong_signature_is_refused(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    with pytest.raises(BadSignature):
        receive(adapter, fake, "Hi", secret="another secret of 16")


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_changed_or_missing_header_is_refused(
    fake: FakeWebhookReceiver, adapter: Adapter, change: str
) -> None:
    headers, body = fake.make_request("Hi")
    for value in ("", "0", str(int(time.time()) + 1), "v1,", "v1,ä"):
        with pytest.raises(BadSignature):
            adapter.receive(make_request({**headers, change: value}, body))
    with pytest.raises(BadSignature):
        adapter.receive(make_request(headers, body + b" "))


@pytest.mark.parametrize("age_s", [TOLERANCE_S + 5, -TOLERANCE_S - 5])
def test_an_old_request_is_refused(fake: FakeWebhookReceiver, adapter: Adapter, age_s: int) -> None:
    with pytest.raises(BadSignature):
        receive(adapter, fake, "Hi", now_s=time.time() - age_s)


@pytest.mark.parametrize(
    ("message", "fields", "words"),
    [
        ("  ", {}, "message: is empty"),
        (5, {}, "must be a string or a list"),
        ([5], {}, "message[0]"),
        ([{"type": "plain"}], {}, "message[0].text: must be a string"),
        ([{"type": "image", "data": "###"}], {}, "message[0].data: must be base64"),
        ([{"type": "image", "data": "A"}], {}, "message[0].data: must be base64"),
        ([{"type": "plain", "text": "a"}] * 101, {}, "message: has 101 segments; at most 100"),
        ([{"type": "image", "url": "http://127.0.0.1/"}], {}, "message[0].data"),
        ([{"type": "dance", "data": ""}], {}, "message[0].type"),
        ("Hi", {"message_type": "X"}, "message_type"),
        ("Hi", {"session_id": ""}, "session_id"),
        ("Hi", {"session_id": None}, "session_id: Missing"),
        ("Hi", {"session_id": True}, "session_id: Not a valid string"),
        ("Hi", {"session_id": 1.5}, "session_id: Not a valid string"),
        ("Hi", {"session_id": "42 "}, "session_id: must have 1 to 200 characters, no blanks"),
        ("Hi", {"session_id": "4\0002"}, "session_id"),
        ("Hi", {"sender_id": "4\0002"}, "sender_id"),
        ("Hi", {"type": "event"}, "type"),
    ],
)
def test_a_wrong_message_is_refused_with_the_reason(
    fake: FakeWebhookReceiver, adapter: Adapter, message: Any, fields: dict[str, Any], words: str
) -> None:
    reception = receive(adapter, fake, message, **fields)
    assert (reception.status, reception.messages) == (400, ())
    assert words in reception.body.decode()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'"x"', b"5"])
def test_a_body_that_is_no_object_is_refused(
    fake: FakeWebhookReceiver, adapter: Adapter, body: bytes
) -> None:
    reception = adapter.receive(make_request(sign(fake.secret, "e1", body), body))
    assert (reception.status, reception.messages) == (400, ())
    assert b"the body " in reception.body


@pytest.mark.parametrize(
    "data",
    ["iVBO\r\nRwo=", "iVBORwo", "data:image/png;base64,iVBORwo=", " iVBORwo=\n"],
)
def test_base64_is_read_in_all_its_forms(
    fake: FakeWebhookReceiver, adapter: Adapter, data: str
) -> None:
    reception = receive(adapter, fake, [{"type": "image", "data": data}])
    assert reception.messages[0].files[0].data == b"\x89PNG\n"


def test_a_byte_order_mark_is_ignored(fake: FakeWebhookReceiver, adapter: Adapter) -> None:
    body = b'\xef\xbb\xbf{"session_id": "42", "message": "Hi"}'
    reception = adapter.receive(make_request(sign(fake.secret, "e1", body), body))
    assert reception.messages[0].text == "Hi"


def read_examples() -> list[str]:
    """Return the two Python blocks about the webhook bot in the documentation."""
    text = (Path(__file__).parents[2] / "docs" / "im.rst").read_text(encoding="utf-8")
    section = text[text.index("Send a message to the bot") :]
    blocks = re.findall(r"code-block:: python\n\n((?:    .*\n|\n)+)", section)
    return [textwrap.dedent(block) for block in blocks[:2]]


def test_the_documentations_examples_work_at_both_ends(
    fake: FakeWebhookReceiver, adapter: Adapter, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    posted: list[urllib.request.Request] = []
    monkeypatch.setattr(urllib.request, "urlopen", posted.append)
    names: dict[str, Any] = {"SECRET": fake.secret, "__name__": "example"}
    send, take = read_examples()
    exec(send, names)
    [request] = posted
    assert isinstance(request.data, bytes)
    reception = adapter.receive(make_request(dict(request.header_items()), request.data))
    assert (reception.status, reception.messages[0].text) == (202, "Hello")

    exec(take, names)
    client = names["app"].test_client()
    Outbox(adapter).send("Good morning", to="42")
    got = fake.requests[0]
    for _ in range(2):
        assert client.post("/from-bot", headers=dict(got.headers), data=got.data).status_code == 200
    assert capsys.readouterr().out.count("Good morning") == 1
    forged = client.post("/from-bot", headers=dict(got.headers), data=got.data + b" ")
    assert forged.status_code == 401


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"secret": "s" * 16}, "url: "),
        ({"url": "http://a/"}, "secret"),
        ({"url": "http://a/", "secret": "short"}, "secret: must have 16 characters"),
        ({"url": "file:///etc/passwd", "secret": "s" * 16}, "url: "),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words), open_adapter("webhook", **settings):
        pass
