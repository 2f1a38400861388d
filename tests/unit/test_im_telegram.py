"""Telegram, in both directions, with a fake Bot API."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.errors import SettingsError
from astrbot_api.im.adapter import Adapter, BadSignature, InMessage, Target
from astrbot_api.testing import FakeTelegram
from tests.im_platforms import (
    DOCUMENT,
    OGG,
    PDF,
    PICTURE,
    PNG,
    RECORDING,
    Outbox,
    make_file,
    make_request,
    open_adapter,
    read_all,
)
from tests.unit.raw_endpoint import Connection, RawEndpoint

SECRET = "webhook-secret_1"
GROUP = -1001234567890


@pytest.fixture
def fake() -> Iterator[FakeTelegram]:
    with FakeTelegram() as fake:
        yield fake


@pytest.fixture
def adapter(fake: FakeTelegram) -> Iterator[Adapter]:
    with open_adapter("telegram", token=fake.token, base_url=fake.url) as adapter:
        yield adapter


@pytest.fixture
def hook(fake: FakeTelegram) -> Iterator[Adapter]:
    with open_adapter(
        "telegram", token=fake.token, base_url=fake.url, updates="webhook",
        webhook_secret=SECRET, username="@" + fake.username,
    ) as adapter:  # fmt: skip
        yield adapter


def receive(hook: Adapter, fake: FakeTelegram, update: dict[str, Any]) -> InMessage:
    reception = hook.receive(make_request(*fake.make_request(update, SECRET)))
    assert reception.status == 200
    assert ("callback_query" in update) == bool(reception.body)
    [message] = reception.messages
    return message


# Sending


def test_text_arrives_with_its_formatting_as_entities(fake: FakeTelegram, outbox: Outbox) -> None:
    receipt = outbox.send("😀 **bold** & <b> [x](https://a.b/)\n```py\nf()\n```", to="42")
    [message] = fake.wait_for_messages(1)
    assert message["chat_id"] == 42
    assert message["text"] == "😀 bold & <b> x\n\nf()"
    assert message["entities"] == [
        {"type": "bold", "offset": 3, "length": 4},
        {"type": "text_link", "offset": 14, "length": 1, "url": "https://a.b/"},
        {"type": "pre", "offset": 17, "length": 3, "language": "py"},
    ]
    assert receipt.platform_ids == (str(message["message_id"]),)
    assert outbox.steps == [(1, 0)]


def test_a_long_text_arrives_in_order_and_each_piece_is_reported(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    text = "\n\n".join(f"{number}. " + "слово 😀 " * 150 for number in range(12))
    outbox.send(text, PICTURE, to="42")
    *pieces, picture = fake.wait_for_messages(2)
    assert picture["method"] == "sendPhoto"
    assert len(pieces) > 3
    joined = "".join(one["text"] for one in pieces)
    assert joined.replace("\n", "").replace(" ", "") == text.replace("\n", "").replace(" ", "")
    assert [step[0] for step in outbox.steps] == [0] * (len(pieces) - 1) + [1, 1]
    # A retry after the first piece continues where it ended.
    assert text[outbox.steps[0][1] :].lstrip().startswith(pieces[1]["text"][:20])


def test_plain_format_sends_the_text_as_it_stands(fake: FakeTelegram) -> None:
    with open_adapter("telegram", token=fake.token, base_url=fake.url, format="plain") as adapter:
        Outbox(adapter).send("**a** _b_", to="42")
    assert fake.messages[0]["text"] == "**a** _b_"
    assert "entities" not in fake.messages[0]


def test_pictures_recordings_and_documents_arrive_as_what_they_are(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    outbox.send(PICTURE, RECORDING, DOCUMENT, to="42")
    photo, voice, document = fake.wait_for_messages(3)
    assert (photo["method"], photo["photo"].data) == ("sendPhoto", PNG)
    assert (voice["method"], voice["voice"].data) == ("sendVoice", OGG)
    assert document["method"] == "sendDocument"
    assert (document["document"].filename, document["document"].data) == ("报告.pdf", PDF)
    assert outbox.steps == [(1, 0), (1, 0), (1, 0)]


def test_a_picture_that_telegram_cannot_show_arrives_as_a_document(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    outbox.send(make_file("image", "x.png", "image/png", b"no picture"), to="42")
    assert [one["method"] for one in fake.messages] == ["sendDocument"]


def test_a_file_name_cannot_break_the_form(fake: FakeTelegram, outbox: Outbox) -> None:
    name = 'a"; name="chat_id"\r\n\r\n7.txt'
    outbox.send(make_file("file", name, "text/plain", b"x"), to="42")
    assert fake.messages[0]["chat_id"] == "42"


def test_only_the_first_message_is_a_reply(fake: FakeTelegram, outbox: Outbox) -> None:
    outbox.send("a", "b", to="42", reply_to="7")
    first, second = fake.wait_for_messages(2)
    assert first["reply_parameters"] == {"message_id": 7, "allow_sending_without_reply": True}
    assert "reply_parameters" not in second


def test_a_group_and_its_topic_are_in_the_session(fake: FakeTelegram, outbox: Outbox) -> None:
    outbox.send("hi", to=f"{GROUP}#77", type="GroupMessage")
    assert (fake.messages[0]["chat_id"], fake.messages[0]["message_thread_id"]) == (GROUP, 77)


def test_a_group_that_became_a_supergroup_is_followed_once(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    fake.migrated["-5"] = GROUP
    outbox.send("hi", to="-5", type="GroupMessage")
    assert [one["chat_id"] for one in fake.messages] == [GROUP]


@pytest.mark.parametrize("session", ["", "alice", "1; 2", "12#x", "@x", "１２"])
def test_a_session_that_is_no_chat_is_a_final_error(outbox: Outbox, session: str) -> None:
    with pytest.raises(PlatformError, match="Telegram chat") as caught:
        outbox.send("hi", to=session)
    assert not caught.value.retryable


def test_a_blank_text_is_done_without_a_request(fake: FakeTelegram, outbox: Outbox) -> None:
    outbox.send(" \n", to="42")
    assert outbox.steps == [(1, 0)]
    assert not fake.requests


def test_429_is_retryable_after_what_telegram_says(fake: FakeTelegram, outbox: Outbox) -> None:
    fake.fail_next(429, retry_after_s=35)
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="42")
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 35.0)
    assert not fake.messages
    outbox.send("hi", to="42")
    assert len(fake.messages) == 1


@pytest.mark.parametrize("status", [500, 502])
def test_5xx_is_retryable(fake: FakeTelegram, outbox: Outbox, status: int) -> None:
    fake.fail_next(status)
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="42")
    assert caught.value.retryable


def test_connection_refused_is_retryable_and_names_no_address(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    fake.refuse()
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="42")
    assert caught.value.retryable
    assert fake.token not in caught.value.message
    assert "127.0.0.1" not in caught.value.message


def test_a_refusal_is_final_with_telegrams_words(fake: FakeTelegram, outbox: Outbox) -> None:
    fake.known = {"1"}
    with pytest.raises(PlatformError, match="chat not found") as caught:
        outbox.send("hi", PICTURE, to="42")
    assert not caught.value.retryable
    fake.fail_next(403)
    with pytest.raises(PlatformError, match="blocked by the user"):
        outbox.send("hi", to="1")


def test_a_wrong_token_is_named_and_never_shown(fake: FakeTelegram) -> None:
    token = "99:wrong-token"
    with open_adapter("telegram", token=token, base_url=fake.url) as adapter:
        assert token not in repr(adapter)
        with pytest.raises(PlatformError, match="token") as caught:
            Outbox(adapter).send("hi", to="42")
    assert token not in str(caught.value)
    assert not caught.value.retryable


def test_an_error_of_a_gateway_does_not_show_the_token() -> None:
    token = "99:own-token"

    def refuse(connection: Connection) -> None:
        path = connection.read_request()[0].split(" ")[1]
        connection.send_json(400, {"ok": False, "description": f"No route {path}"})

    with (
        RawEndpoint(refuse) as endpoint,
        open_adapter("telegram", token=token, base_url=endpoint.base_url) as adapter,
        pytest.raises(PlatformError, match=r"No route .*/bot…/sendMessage") as caught,
    ):
        Outbox(adapter).send("hi", to="42")
    assert token not in str(caught.value)


def test_no_log_shows_the_token(
    fake: FakeTelegram, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        outbox.send("hi", PICTURE, to="42")
    assert "/sendPhoto" in caplog.text
    assert fake.token not in caplog.text


def test_no_log_shows_the_token_of_a_platform_that_talks_nonsense(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def talk_nonsense(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    token = "110201543:AAHdqTcvCH1vGWJxfSe"
    with (
        RawEndpoint(talk_nonsense) as endpoint,
        open_adapter("telegram", token=token, base_url=endpoint.base_url) as adapter,
        caplog.at_level(logging.DEBUG),
        pytest.raises(PlatformError),
    ):
        Outbox(adapter).send("hi", to="42")
    assert "parse headers" in caplog.text
    assert token not in caplog.text


def test_what_came_before_a_failure_is_reported(fake: FakeTelegram, outbox: Outbox) -> None:
    fake.fail_next(500, path="/sendPhoto")
    with pytest.raises(PlatformError):
        outbox.send("one", PICTURE, to="42")
    assert outbox.steps == [(1, 0)]


def test_typing_is_shown(fake: FakeTelegram, adapter: Adapter) -> None:
    adapter.show_typing(Target("FriendMessage", "42"))
    assert fake.wait_for_request("/sendChatAction").read_fields()["action"] == "typing"


# Receiving


def test_documented_update_is_read(hook: Adapter, fake: FakeTelegram) -> None:
    # Source: https://core.telegram.org/bots/webhooks#testing-your-bot-with-updates
    update = {
        "update_id": 10000,
        "message": {
            "date": 1441645532,
            "chat": {
                "last_name": "Test Lastname", "id": 1111111, "type": "private",
                "first_name": "Test Firstname", "username": "Testusername",
            },
            "message_id": 1365,
            "from": {
                "last_name": "Test Lastname", "id": 1111111, "first_name": "Test Firstname",
                "username": "Testusername",
            },
            "text": "/start",
        },
    }  # fmt: skip
    assert receive(hook, fake, update) == InMessage(
        event_id="1111111/1365", message_type="FriendMessage", session_id="1111111",
        sender_id="1111111", sender_name="Test Firstname Test Lastname", text="/start",
        platform_message_id="1365",
    )  # fmt: skip


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x", "sécret"])
def test_a_wrong_secret_is_a_bad_signature(hook: Adapter, fake: FakeTelegram, secret: str) -> None:
    with pytest.raises(BadSignature):
        hook.receive(make_request(*fake.make_request(fake.make_update("hi"), secret)))


def test_a_polling_bot_takes_nothing_by_webhook(adapter: Adapter, fake: FakeTelegram) -> None:
    with pytest.raises(BadSignature):
        adapter.receive(make_request(*fake.make_request(fake.make_update("hi"), "")))


def group_update(fake: FakeTelegram, text: str, **message: Any) -> dict[str, Any]:
    return fake.make_update(text, chat_id=GROUP, chat_type="supergroup", **message)


@pytest.mark.parametrize(
    ("text", "read", "addressed"),
    [
        ("@tea_bot hello", "hello", True),
        ("Hey @Tea_Bot, what is 🍵 tea?", "Hey what is 🍵 tea?", True),
        ("🍵🍵 @tea_bot", "🍵🍵", True),
        ("/help@tea_bot me", "/help me", True),
        ("/help@other_bot", "/help@other_bot", False),
        ("/help", "/help", False),
        ("@tea_bot_2 hello", "@tea_bot_2 hello", False),
        ("hello all", "hello all", False),
        ("mail me@tea_bot.com", "mail me@tea_bot.com", False),
    ],
)
def test_a_group_message_is_addressed_when_it_names_the_bot(
    hook: Adapter, fake: FakeTelegram, text: str, read: str, addressed: bool
) -> None:
    update = group_update(fake, text)
    entities = update["message"].get("entities", [])
    for entity in entities:  # Telegram counts in UTF-16.
        at = entity["offset"]
        entity["offset"] = len(text[:at].encode("utf-16-le")) // 2
    if "mail" in text:
        update["message"]["entities"] = [{"type": "email", "offset": 5, "length": 14}]
    message = receive(hook, fake, update)
    assert (message.text, message.addressed) == (read, addressed)
    assert (message.message_type, message.session_id) == ("GroupMessage", str(GROUP))


def test_a_mention_by_a_name_that_ends_with_an_emoji_is_left_out(
    hook: Adapter, fake: FakeTelegram
) -> None:
    mention = {"type": "text_mention", "offset": 0, "length": 5, "user": {"id": fake.bot_id}}
    message = receive(hook, fake, group_update(fake, "Tea🍵 hello", entities=[mention]))
    assert (message.text, message.addressed) == ("hello", True)


def test_an_answer_to_the_bot_is_addressed_and_quoted(hook: Adapter, fake: FakeTelegram) -> None:
    own = {"message_id": 5, "text": "I said", "from": {"id": fake.bot_id, "is_bot": True}}
    message = receive(hook, fake, group_update(fake, "why?", reply_to_message=own))
    assert (message.addressed, message.quoted) == (True, "I said")
    other = {"message_id": 5, "text": "She said", "from": {"id": 7, "is_bot": False}}
    message = receive(hook, fake, group_update(fake, "why?", reply_to_message=other))
    assert (message.addressed, message.quoted) == (False, "She said")


def test_a_question_about_somebodys_picture_or_words_has_them(
    hook: Adapter, fake: FakeTelegram
) -> None:
    photo = [{"file_id": fake.add_file(PNG, "a.jpg"), "width": 1, "height": 1}]
    shown = {"message_id": 5, "photo": photo, "caption": "Look", "from": {"id": 7}}
    message = receive(hook, fake, group_update(fake, "@tea_bot what?", reply_to_message=shown))
    assert (message.text, message.quoted) == ("what?", "Look")
    assert [read_all(hook, file) for file in message.files] == [PNG]
    said = {"message_id": 5, "text": "How high is it?", "from": {"id": 7}}
    message = receive(hook, fake, group_update(fake, "@tea_bot", reply_to_message=said))
    assert (message.text, message.quoted, message.addressed) == ("", "How high is it?", True)


def test_a_link_behind_words_is_shown_with_its_address(hook: Adapter, fake: FakeTelegram) -> None:
    link = {"type": "text_link", "offset": 3, "length": 4, "url": "https://a.example/x"}
    said = {"text": "🍵 this one", "entities": [link]}
    answered = {"message_id": 5, "from": {"id": 7}, **said}
    update = fake.make_update(said["text"], entities=[link], reply_to_message=answered)
    message = receive(hook, fake, update)
    assert message.text == message.quoted == "🍵 this (https://a.example/x) one"


PLACE = {"latitude": 59.9, "longitude": 10.7}


@pytest.mark.parametrize(
    ("shared", "text"),
    [
        ({"location": PLACE}, "[location: 59.9, 10.7]"),
        ({"location": PLACE, "venue": {"location": PLACE, "title": "Café", "address": "Gate 1"}},
         "[venue: Café, Gate 1 (59.9, 10.7)]"),
        ({"contact": {"phone_number": "+47 1", "first_name": "Kari"}}, "[contact: Kari +47 1]"),
        ({"poll": {"question": "When?", "options": [{"text": "Now", "voter_count": 2}]}},
         "[poll: When? | Now (2)]"),
        ({"dice": {"emoji": "🎲", "value": 5}}, "[dice: 🎲 5]"),
        ({"story": {"id": 5, "chat": {"id": 7}}}, "[story, which bots cannot read]"),
        ({"checklist": {"title": "Move", "tasks": [
            {"id": 1, "text": "Pack", "completion_date": 1750000000}, {"id": 2, "text": "Clean"},
        ]}}, "[checklist: Move | ☑ Pack | ☐ Clean]"),
    ],
)  # fmt: skip
def test_what_is_shared_without_words_is_given_as_words(
    hook: Adapter, fake: FakeTelegram, shared: dict[str, Any], text: str
) -> None:
    assert receive(hook, fake, fake.make_update(**shared)).text == text
    answered = {"message_id": 5, "from": {"id": 7}, **shared}
    update = fake.make_update("where?", reply_to_message=answered)
    assert receive(hook, fake, update).quoted == text


def test_a_rich_message_of_another_bot_is_given_as_markdown_with_its_files(
    hook: Adapter, fake: FakeTelegram
) -> None:
    photo = [{"file_id": fake.add_file(PNG, "a.jpg"), "width": 1, "height": 1}]
    cells = [[{"text": "item"}, {"text": "price"}], [{"text": {"type": "bold", "text": "tea"}}, {}]]
    link = {"type": "url", "text": "there", "url": "https://a.example/x"}
    items = [
        {"label": "•", "blocks": [{"type": "paragraph", "text": "one"}]},
        {"label": "2.", "blocks": [], "has_checkbox": True, "is_checked": True},
    ]
    blocks: list[dict[str, Any]] = [
        {"type": "heading", "size": 2, "text": "Report"},
        {"type": "paragraph", "text": ["see ", link, {"type": "custom_emoji"}]},
        {"type": "table", "cells": cells, "caption": "Prices"},
        {"type": "list", "items": items},
        {"type": "pre", "language": "py", "text": "a = 1"},
        {"type": "mathematical_expression", "expression": "x^2"},
        {"type": "divider"},
        {"type": "details", "summary": "More", "blocks": [
            {"type": "blockquote", "blocks": [{"type": "paragraph", "text": "said"}]},
            {"type": "photo", "photo": photo, "caption": {"text": "A cup"}},
        ]},
    ]  # fmt: skip
    origin = {"type": "user", "sender_user": {"id": 9, "is_bot": True, "first_name": "Ann"}}
    update = fake.make_update(rich_message={"blocks": blocks}, forward_origin=origin)
    message = receive(hook, fake, update)
    assert message.text == (
        "[Forwarded from Ann]\n## Report\n\nsee there (https://a.example/x)\n\n"
        "| item | price |\n| --- | --- |\n| tea |  |\nPrices\n\n- one\n2. [x] \n\n"
        "```py\na = 1\n```\n\n$$x^2$$\n\nMore\n\n> said\n\nA cup"
    )
    assert [read_all(hook, file) for file in message.files] == [PNG]


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ({"type": "hidden_user", "sender_user_name": "Kari"}, "Kari"),
        ({"type": "channel", "chat": {"id": -5, "title": "News"}}, "News"),
        ({"type": "chat", "sender_chat": {"id": -5, "title": "Group"}}, "Group"),
    ],
)
def test_a_forwarded_message_names_its_author_and_is_no_command(
    hook: Adapter, fake: FakeTelegram, origin: dict[str, Any], name: str
) -> None:
    message = receive(hook, fake, fake.make_update("/reset", forward_origin=origin))
    assert message.text == f"[Forwarded from {name}]\n/reset"


def test_a_message_of_another_chat_is_quoted_with_its_files(
    hook: Adapter, fake: FakeTelegram
) -> None:
    origin = {"document": {"file_id": fake.add_file(PDF), "file_name": "a.pdf"}}
    update = fake.make_update("sum it up", external_reply=origin, quote={"text": "page 2"})
    message = receive(hook, fake, update)
    assert (message.text, message.quoted) == ("sum it up", "page 2")
    assert [read_all(hook, file) for file in message.files] == [PDF]


def test_a_topic_is_a_session_of_its_own(hook: Adapter, fake: FakeTelegram) -> None:
    opening = {"message_id": 77, "forum_topic_created": {"name": "x"}, "from": {"id": fake.bot_id}}
    update = group_update(
        fake, "hi", is_topic_message=True, message_thread_id=77, reply_to_message=opening
    )
    message = receive(hook, fake, update)
    assert (message.session_id, message.addressed) == (f"{GROUP}#77", False)


def test_the_largest_picture_and_its_caption_come_in(hook: Adapter, fake: FakeTelegram) -> None:
    sizes = [
        {"file_id": "small", "file_unique_id": "a", "width": 90, "height": 67, "file_size": 1},
        {
            "file_id": fake.add_file(PNG, "photos/file_1.jpg"), "file_unique_id": "b",
            "width": 1280, "height": 960,
        },
    ]  # fmt: skip
    message = receive(hook, fake, fake.make_update(photo=sizes, caption="What is it?"))
    [file] = message.files
    assert (message.text, file.type, read_all(hook, file)) == ("What is it?", "image", PNG)


@pytest.mark.parametrize(
    ("key", "type", "name"),
    [("voice", "record", "voice.ogg"), ("video_note", "video", "video.mp4")],
)
def test_recordings_and_videos_come_in(
    hook: Adapter, fake: FakeTelegram, key: str, type: str, name: str
) -> None:
    file_id = fake.add_file(OGG)
    message = receive(hook, fake, fake.make_update(**{key: {"file_id": file_id, "duration": 3}}))
    [file] = message.files
    assert (file.type, file.filename, read_all(hook, file)) == (type, name, OGG)


def test_a_document_comes_in_with_its_name(hook: Adapter, fake: FakeTelegram) -> None:
    document = {"file_id": fake.add_file(PDF), "file_name": "报告.pdf", "mime_type": "x/y"}
    [file] = receive(hook, fake, fake.make_update(document=document)).files
    assert (file.type, file.filename, read_all(hook, file)) == ("file", "报告.pdf", PDF)


def test_a_file_that_telegram_does_not_give_is_an_error(hook: Adapter, fake: FakeTelegram) -> None:
    big = fake.add_file(bytes(20 * 1024 * 1024 + 1))
    [file] = receive(hook, fake, fake.make_update(document={"file_id": big})).files
    with pytest.raises(PlatformError, match="too big"):
        hook.open_file(file.source)
    odd = fake.add_file(PDF, "../../etc/passwd")
    [file] = receive(hook, fake, fake.make_update(document={"file_id": odd})).files
    with pytest.raises(PlatformError, match="not valid"):
        hook.open_file(file.source)


@pytest.mark.parametrize(
    "change",
    [
        {"from": {"id": 5, "is_bot": True, "first_name": "Other bot"}},
        {"text": None, "new_chat_members": [{"id": 5}]},
        {"chat": {"id": 5, "type": "channel"}},
        {"chat": "nonsense"},
        {"entities": [{"type": "mention"}]},
        {"is_automatic_forward": True},
    ],
)
def test_what_is_no_question_is_answered_200_and_left_out(
    hook: Adapter, fake: FakeTelegram, change: dict[str, Any]
) -> None:
    update = fake.make_update("x")
    update["message"] |= change
    reception = hook.receive(make_request(*fake.make_request(update, SECRET)))
    assert (reception.status, reception.messages) == (200, ())


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"update_id":1,"edited_message":{}}'])
def test_other_bodies_are_left_out(hook: Adapter, body: bytes) -> None:
    headers = {"x-telegram-bot-api-secret-token": SECRET}
    reception = hook.receive(make_request(headers, body))
    assert not reception.messages
    assert reception.status == (200 if body else 400)


# Polling


def test_polling_yields_messages_and_confirms_them_with_the_next_question(
    adapter: Adapter, fake: FakeTelegram
) -> None:
    assert adapter.polls
    fake.webhook = {"url": "https://old.example"}
    for text in ("one", "two"):
        fake.queue(fake.make_update(text))
    batches = adapter.poll(threading.Event())
    assert [one.text for one in next(batches)] == ["one", "two"]
    assert fake.unconfirmed == 2
    fake.queue(fake.make_update("three"))
    assert [one.text for one in next(batches)] == ["three"]
    assert fake.unconfirmed == 1


def test_polling_learns_the_bots_name(adapter: Adapter, fake: FakeTelegram) -> None:
    fake.queue(group_update(fake, "@tea_bot hi"))
    [message] = next(iter(adapter.poll(threading.Event())))
    assert (message.text, message.addressed) == ("hi", True)


def test_an_update_that_is_not_understood_does_not_stop_the_others(
    adapter: Adapter, fake: FakeTelegram
) -> None:
    fake.queue({"update_id": 1, "message": {"odd": True}})
    fake.queue(fake.make_update("two"))
    assert [one.text for one in next(iter(adapter.poll(threading.Event())))] == ["two"]


def test_polling_ends_when_it_is_asked_to(adapter: Adapter, fake: FakeTelegram) -> None:
    stop = threading.Event()
    fake.queue(fake.make_update("one"))
    batches = adapter.poll(stop)
    next(batches)
    stop.set()
    assert list(batches) == []


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "token"),
        ({"token": "no"}, "token: must be the token from @BotFather"),
        ({"token": "1:a", "updates": "webhook", "username": "b"}, "webhook_secret: required"),
        ({"token": "1:a", "updates": "webhook", "webhook_secret": "s"}, "username: required"),
        ({"token": "1:a", "updates": "sometimes"}, "updates"),
        ({"token": "1:a", "base_url": "ftp://x"}, "base_url"),
        ({"token": "1:a", "tokens": "x"}, "tokens"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words), open_adapter("telegram", **settings):
        pass
