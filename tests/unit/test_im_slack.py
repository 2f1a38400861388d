"""Slack, in both directions, with a fake that its own SDK accepts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.errors import SettingsError
from astrbot_api.im.adapter import Adapter, BadSignature, InMessage, Reception
from astrbot_api.im.markdown import read_markdown
from astrbot_api.im.slack.mrkdwn import read_mrkdwn, write_mrkdwn
from astrbot_api.testing import FakeSlack
from tests.im_platforms import (
    DOCUMENT,
    PDF,
    PICTURE,
    PNG,
    Outbox,
    make_file,
    make_request,
    open_adapter,
    open_slack,
    read_all,
)


@pytest.fixture
def fake() -> Iterator[FakeSlack]:
    with FakeSlack() as fake:
        yield fake


@pytest.fixture
def adapter(fake: FakeSlack) -> Iterator[Adapter]:
    with open_slack(fake) as adapter:
        yield adapter


def post(adapter: Adapter, fake: FakeSlack, event: dict[str, Any], **more: Any) -> Reception:
    return adapter.receive(make_request(*fake.make_request(event, **more)))


def receive(adapter: Adapter, fake: FakeSlack, event: dict[str, Any]) -> InMessage:
    reception = post(adapter, fake, event)
    assert reception.status == 200
    [message] = reception.messages
    return message


def test_slacks_own_client_and_verifier_are_content_with_the_fake(fake: FakeSlack) -> None:
    client = WebClient(token=fake.token, base_url=fake.base_url + "/")
    client.chat_postMessage(channel="C123ABC456", text="hi")
    client.files_upload_v2(channel="C123ABC456", content=PDF, filename="a.pdf", title="A")
    assert [one["method"] for one in fake.messages] == [
        "chat.postMessage", "files.completeUploadExternal",
    ]  # fmt: skip
    with pytest.raises(SlackApiError, match="invalid_auth"):
        WebClient(token="xoxb-wrong", base_url=fake.base_url + "/").auth_test()
    headers, body = fake.make_request(fake.make_event("hi"))
    assert SignatureVerifier(fake.signing_secret).is_valid_request(body, headers)


# Markup


@pytest.mark.parametrize(
    ("markdown", "mrkdwn"),
    [
        ("**bold** _it_ ~~no~~ `code`", "*bold* _it_ ~no~ `code`"),
        ("[a|b](https://x.y/?a=1&b=|)", "<https://x.y/?a=1&amp;b=%7C|a|b>"),
        ("# T\n\n- one\n- two", "*T*\n\n• one\n• two"),
        ("```py\na < b\n```", "```\na &lt; b\n```"),
        ("> one\n> two", "> one\n> two"),
        ("**a _b_**", "*a _b_*"),
        ("<!channel> <@U1> & <#C1>", "&lt;!channel&gt; &lt;@U1&gt; &amp; &lt;#C1&gt;"),
        ("*x `c`*", "_x_ `c`"),
        ("**[x](https://x.y/)** ***z***", "*<https://x.y/|x>* *_z_*"),
        ("请**务必**用`pip`装", "请\u200b*务必*\u200b用\u200b`pip`\u200b装"),
        ("**注意**：~~旧~~**b**s", "*注意*\u200b：\u200b~旧~\u200b*b*\u200bs"),
        ("**a**b c", "*a*\u200bb c"),
        ("(**a**), _b_.\n**c**", "(*a*), _b_.\n*c*"),
        ("[all](!channel) [you](@U1)", "all (!channel) you (@U1)"),
        ("[top](#C1) [guide](./a.md)", "top (#C1) guide (./a.md)"),
    ],
)
def test_markdown_becomes_mrkdwn_in_which_nobody_is_called(markdown: str, mrkdwn: str) -> None:
    assert write_mrkdwn(read_markdown(markdown)) == mrkdwn


@pytest.mark.parametrize(
    ("mrkdwn", "text"),
    [
        ("<@U1> hi <@U2|bob> <@U3>", "hi @bob @U3"),
        ("see <https://x.y/?a=1&amp;b|the page> and <https://z.z>",
         "see the page (https://x.y/?a=1&b) and https://z.z"),
        ("<#C1|general> <#C2> <!here> <mailto:a@b.c|a@b.c>", "#general #C2 @here a@b.c"),
        ("1 &lt; 2 &amp;lt; 3", "1 < 2 &lt; 3"),
    ],
)  # fmt: skip
def test_mrkdwn_is_read_as_it_is_shown(mrkdwn: str, text: str) -> None:
    assert read_mrkdwn(mrkdwn, "U1")[0] == text


# Sending


def test_text_arrives_with_its_formatting(fake: FakeSlack, outbox: Outbox) -> None:
    receipt = outbox.send("**Hi** <!channel>", to="C123ABC456", type="GroupMessage")
    [message] = fake.wait_for_messages(1)
    assert (message["channel"], message["text"]) == ("C123ABC456", "*Hi* &lt;!channel&gt;")
    assert "thread_ts" not in message
    assert receipt.platform_ids == (message["ts"],)


def test_plain_format_escapes_only(fake: FakeSlack) -> None:
    with open_adapter("slack", token=fake.token, base_url=fake.base_url, format="plain") as adapter:
        Outbox(adapter).send("**Hi** <@U1>", to="C123ABC456")
    assert fake.messages[0]["text"] == "**Hi** &lt;@U1&gt;"


def test_a_thread_is_in_the_session(fake: FakeSlack, outbox: Outbox) -> None:
    outbox.send("hi", PICTURE, to="C123ABC456#1515449522.000016", type="GroupMessage")
    assert [one["thread_ts"] for one in fake.messages] == ["1515449522.000016"] * 2


def test_a_user_is_written_to_in_a_channel_of_their_own(fake: FakeSlack, outbox: Outbox) -> None:
    outbox.send("hi", to="U061F7AUR")
    assert fake.messages[0]["channel"] == "D061F7AUR"


def test_a_long_text_arrives_in_pieces_that_are_reported(fake: FakeSlack, outbox: Outbox) -> None:
    outbox.send("&" * 8000, to="C123ABC456")
    assert [one["text"] for one in fake.messages] == ["&amp;" * n for n in (3500, 3500, 1000)]
    assert outbox.steps == [(0, 3500), (0, 3500), (1, 0)]


def test_files_arrive_with_their_bytes_and_names(fake: FakeSlack, outbox: Outbox) -> None:
    outbox.send(PICTURE, DOCUMENT, to="C123ABC456")
    [picture], [document] = (one["files"] for one in fake.wait_for_messages(2))
    assert (picture["name"], picture["data"]) == ("red.png", PNG)
    assert (document["name"], document["data"]) == ("报告.pdf", PDF)
    assert outbox.steps == [(1, 0), (1, 0)]


def test_an_upload_to_another_host_is_refused(
    fake: FakeSlack, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astrbot_api.testing.fake_platform import answer_json

    answer = answer_json({"ok": True, "file_id": "F1", "upload_url": "http://169.254.169.254/x"})
    monkeypatch.setattr(fake, "_begin_upload", lambda fields: answer)
    with pytest.raises(PlatformError, match="is not Slack's"):
        outbox.send(PICTURE, to="C123ABC456")


def test_an_empty_file_is_a_final_error(outbox: Outbox) -> None:
    with pytest.raises(PlatformError, match="empty"):
        outbox.send(make_file("file", "x", "x/y", b""), to="C123ABC456")


@pytest.mark.parametrize("session", ["", "general", "#general", "C1 C2", "C123ABC456#x"])
def test_a_session_that_is_no_channel_is_a_final_error(outbox: Outbox, session: str) -> None:
    with pytest.raises(PlatformError, match="Slack channel or user") as caught:
        outbox.send("hi", to=session)
    assert not caught.value.retryable


def test_429_is_retryable_after_what_slack_says(fake: FakeSlack, outbox: Outbox) -> None:
    fake.fail_next(429, retry_after_s=30)
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="C123ABC456")
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 30.0)
    outbox.send("hi", to="C123ABC456")
    assert len(fake.messages) == 1


@pytest.mark.parametrize("status", [500, 503, 200])
def test_5xx_and_internal_errors_are_retryable(
    fake: FakeSlack, outbox: Outbox, status: int
) -> None:
    fake.fail_next(status)
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="C123ABC456")
    assert caught.value.retryable


def test_connection_refused_is_retryable(fake: FakeSlack, outbox: Outbox) -> None:
    fake.refuse()
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="C123ABC456")
    assert caught.value.retryable


def test_a_refusal_is_final_with_slacks_words(fake: FakeSlack, outbox: Outbox) -> None:
    fake.known = {"C1"}
    with pytest.raises(PlatformError, match=r"chat\.postMessage: channel_not_found") as caught:
        outbox.send("hi", to="C123ABC456")
    assert not caught.value.retryable


def test_a_wrong_token_is_named_and_never_shown(fake: FakeSlack) -> None:
    token = "xoxb-wrong"
    with (
        open_adapter("slack", token=token, base_url=fake.base_url) as adapter,
        pytest.raises(PlatformError, match="token") as caught,
    ):
        Outbox(adapter).send("hi", to="C123ABC456")
    assert token not in str(caught.value)
    assert not caught.value.retryable


# Receiving


def test_the_challenge_is_answered_when_it_is_signed(adapter: Adapter, fake: FakeSlack) -> None:
    # Source: https://docs.slack.dev/reference/events/url_verification
    body = {
        "token": "Jhj5dZrVaK7ZwHHjRyZWjbDl",
        "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
        "type": "url_verification",
    }
    reception = post(adapter, fake, body)
    assert reception.body == body["challenge"].encode()
    assert reception.content_type.startswith("text/plain")
    with pytest.raises(BadSignature):
        post(adapter, fake, body, secret="wrong")


def test_documented_mention_is_read(adapter: Adapter, fake: FakeSlack) -> None:
    # Source: https://docs.slack.dev/reference/events/app_mention
    event = fake.make_event("<@U0LAN0Z89> is it everything a river should be?")
    event["event"] |= {"ts": "1515449522.000016", "event_ts": "1515449522000016"}
    assert receive(adapter, fake, event) == InMessage(
        event_id="C123ABC456/1515449522.000016", message_type="GroupMessage",
        session_id="C123ABC456#1515449522.000016", sender_id="U061F7AUR", sender_name="",
        text="is it everything a river should be?",
        platform_message_id="1515449522.000016",
    )  # fmt: skip


def test_documented_direct_message_is_read(adapter: Adapter, fake: FakeSlack) -> None:
    # Source: https://docs.slack.dev/reference/events/message.im
    event = fake.make_event(
        "Hello hello can you hear me?", channel="D024BE91L", user="U2147483697",
        ts="1355517523.000005",
    )  # fmt: skip
    message = receive(adapter, fake, event)
    assert (message.message_type, message.session_id, message.sender_id) == (
        "FriendMessage", "D024BE91L", "U2147483697",
    )  # fmt: skip
    assert (message.text, message.addressed) == ("Hello hello can you hear me?", True)


def test_a_person_who_installed_the_app_is_answered(adapter: Adapter, fake: FakeSlack) -> None:
    # Source: https://docs.slack.dev/apis/events-api, "authorizations" names any one installer.
    event = fake.make_event("hi", channel="D024BE91L", user="U7")
    event["authorizations"] = [{"team_id": "T1", "user_id": "U7", "is_bot": False}]
    assert receive(adapter, fake, event).text == "hi"


def test_without_threads_a_channel_is_one_session(fake: FakeSlack) -> None:
    with open_adapter(
        "slack", token=fake.token, signing_secret=fake.signing_secret, threads=False
    ) as adapter:
        assert receive(adapter, fake, fake.make_event("hi")).session_id == "C123ABC456"
        threaded = fake.make_event("hi", thread_ts="1.5")
        assert receive(adapter, fake, threaded).session_id == "C123ABC456#1.5"


def test_a_mention_that_is_delivered_twice_is_one_event(adapter: Adapter, fake: FakeSlack) -> None:
    text = f"<@{fake.bot_user}> hi"
    first = receive(adapter, fake, fake.make_event(text, ts="1.000001"))
    second = receive(adapter, fake, fake.make_event(text, ts="1.000001", type="message"))
    assert first.event_id == second.event_id
    assert first.addressed
    assert second.addressed


def test_a_repetition_has_the_same_event_id(adapter: Adapter, fake: FakeSlack) -> None:
    event = fake.make_event("hi")
    [first] = post(adapter, fake, event).messages
    [again] = post(adapter, fake, event, retry=1).messages
    assert first.event_id == again.event_id


def test_a_message_that_names_others_is_not_addressed(adapter: Adapter, fake: FakeSlack) -> None:
    event = fake.make_event("<@U061F7AUR> hi", type="message", channel_type="channel")
    message = receive(adapter, fake, event)
    assert (message.text, message.addressed) == ("@U061F7AUR hi", False)


def test_files_come_in_with_the_bots_token(adapter: Adapter, fake: FakeSlack) -> None:
    files = [fake.add_file(PNG, "a.png", "image/png"), fake.add_file(PDF, "b.pdf", "x/pdf")]
    event = fake.make_event("look", channel="D024BE91L", subtype="file_share", files=files)
    picture, document = receive(adapter, fake, event).files
    assert (picture.type, picture.filename, read_all(adapter, picture)) == ("image", "a.png", PNG)
    assert (document.type, document.filename, read_all(adapter, document)) == ("file", "b.pdf", PDF)


def test_a_file_of_a_shared_channel_comes_in_by_its_id(adapter: Adapter, fake: FakeSlack) -> None:
    whole = fake.add_file(PDF, "b.pdf", "x/pdf")
    file = {"id": whole["id"], "mode": "file_access", "file_access": "check_file_info"}
    event = fake.make_event("look", channel="D024BE91L", subtype="file_share", files=[file])
    [found] = receive(adapter, fake, event).files
    assert read_all(adapter, found) == PDF


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://files.slack.com/x",
        "https://slack.com.evil/x",
        "https://evilslack.com/x",
        "",
    ],
)
def test_the_token_goes_to_slack_only(adapter: Adapter, fake: FakeSlack, url: str) -> None:
    file = fake.add_file(PNG) | {"url_private_download": url or "x", "url_private": "x"}
    event = fake.make_event("look", channel="D024BE91L", subtype="file_share", files=[file])
    [found] = receive(adapter, fake, event).files
    with pytest.raises(PlatformError, match="is not Slack's"):
        adapter.open_file(found.source)


def test_a_wrong_signature_is_refused(adapter: Adapter, fake: FakeSlack) -> None:
    event = fake.make_event("hi")
    for secret in ("", "wrong"):
        with pytest.raises(BadSignature):
            post(adapter, fake, event, secret=secret)
    headers, body = fake.make_request(event)
    for change in ({"x-slack-signature": "v0=ä"}, {"x-slack-request-timestamp": "x"}):
        with pytest.raises(BadSignature):
            adapter.receive(make_request(headers | change, body))
    with pytest.raises(BadSignature):
        adapter.receive(make_request(headers, body + b" "))


@pytest.mark.parametrize("age_s", [310, -310])
def test_an_old_request_is_refused(adapter: Adapter, fake: FakeSlack, age_s: int) -> None:
    with pytest.raises(BadSignature):
        post(adapter, fake, fake.make_event("hi"), now_s=time.time() - age_s)


def test_without_a_signing_secret_nothing_comes_in(fake: FakeSlack) -> None:
    with open_adapter("slack", token=fake.token) as adapter, pytest.raises(BadSignature):
        post(adapter, fake, fake.make_event("hi"), secret="")


@pytest.mark.parametrize(
    "change",
    [
        {"user": "U0LAN0Z89"},
        {"bot_id": "B1"},
        {"subtype": "message_changed"},
        {"subtype": "channel_join"},
        {"type": "reaction_added"},
        {"user": None, "channel": None, "ts": None, "text": None, "type": "message"},
    ],
)
def test_what_is_no_question_is_left_out(
    adapter: Adapter, fake: FakeSlack, change: dict[str, Any]
) -> None:
    event = fake.make_event("hi", channel="D024BE91L")
    event["event"] |= change
    if change.get("user", "") is None:
        del event["event"]["user"]
    reception = post(adapter, fake, event)
    assert (reception.status, reception.messages) == (200, ())


@pytest.mark.parametrize(
    ("settings", "words"),
    [({}, "token"), ({"token": "x"}, "begins with xoxb-"), ({"token": "xoxb-1", "a": 1}, "a: ")],
)
def test_wrong_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words), open_adapter("slack", **settings):
        pass
