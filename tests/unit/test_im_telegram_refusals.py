"""Messages that Telegram rejects in part still arrive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.im.adapter import Adapter, Choice, OutMessage, Target
from astrbot_api.testing import FakeTelegram
from tests.im_platforms import PDF, PICTURE, Outbox, make_request, open_adapter, read_all

GROUP = -1001234567890


@pytest.fixture
def fake() -> Iterator[FakeTelegram]:
    with FakeTelegram() as fake:
        yield fake


@pytest.fixture
def adapter(fake: FakeTelegram) -> Iterator[Adapter]:
    with open_adapter(
        "telegram", token=fake.token, base_url=fake.url, updates="webhook",
        webhook_secret="s", username=fake.username,
    ) as adapter:  # fmt: skip
        yield adapter


@pytest.mark.parametrize(
    "words",
    [
        "Bad Request: message thread not found",
        "Bad Request: invalid message thread identifier specified",
        "Bad Request: TOPIC_CLOSED",
        "Bad Request: TOPIC_DELETED",
        "Bad Request: the topic is closed",
    ],
)
def test_a_message_into_a_topic_that_is_gone_goes_to_the_group(
    fake: FakeTelegram, outbox: Outbox, words: str
) -> None:
    fake.gone_topics[9] = words
    outbox.send("one", PICTURE, to=f"{GROUP}#9", type="GroupMessage")
    text, picture = fake.wait_for_messages(2)
    assert (text["chat_id"], text["text"]) == (GROUP, "one")
    assert picture["chat_id"] == str(GROUP)
    assert not {"message_thread_id"} & (text.keys() | picture.keys())
    # The topic is tried once for the whole message.
    assert len(fake.requests) == 3


def test_an_answer_to_a_message_that_is_gone_answers_nothing(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    fake.gone_messages = {7}
    outbox.send("hi", to="42", reply_to="7")
    [message] = fake.messages
    assert message["text"] == "hi"
    assert "reply_parameters" not in message


def test_topic_question_and_group_may_all_be_gone(fake: FakeTelegram, outbox: Outbox) -> None:
    fake.migrated["-5"] = GROUP
    fake.gone_topics[9] = "Bad Request: message thread not found"
    fake.gone_messages = {7}
    outbox.send("**hi**", to="-5#9", type="GroupMessage", reply_to="7")
    [message] = fake.messages
    assert (message["chat_id"], message["text"]) == (GROUP, "hi")
    assert message.keys().isdisjoint({"message_thread_id", "reply_parameters"})
    assert message["entities"]


def test_groups_that_name_each_other_are_given_up(fake: FakeTelegram, outbox: Outbox) -> None:
    fake.migrated = {"-5": -6, "-6": -5}
    with pytest.raises(PlatformError, match="supergroup") as caught:
        outbox.send("hi", to="-5", type="GroupMessage")
    assert not caught.value.retryable
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "words",
    [
        "Bad Request: can't parse entities: unsupported URL",
        "Bad Request: ENTITY_BOUNDS_INVALID",
        "Bad Request: Wrong HTTP URL",
    ],
)
def test_formatting_that_is_refused_is_left_out(
    fake: FakeTelegram, outbox: Outbox, words: str
) -> None:
    fake.entities_refusal = words
    outbox.send("**hi** [x](https://a.b/)", to="42")
    [message] = fake.messages
    assert "entities" not in message
    assert message["text"].strip() == "hi x (https://a.b/)"


@pytest.mark.parametrize("address", ["./a.md", "#top", "http://localhost:3000/x", "sftp://a.b/"])
def test_a_link_that_telegram_would_refuse_is_shown_and_the_others_stay_links(
    fake: FakeTelegram, outbox: Outbox, address: str
) -> None:
    outbox.send(f"**hi** [x]({address}) [y](https://a.b/)", to="42")
    [message] = fake.messages
    assert message["text"].strip() == f"hi x ({address}) y"
    assert [one.get("url") for one in message["entities"]] == [None, "https://a.b/"]


def test_links_after_much_formatting_keep_their_addresses(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    outbox.send("**b** `c` " * 60 + "[x](https://a.b/)", to="42")
    [message] = fake.messages
    assert len(message["entities"]) == 100
    assert message["entities"][-1]["url"] == "https://a.b/"


def test_more_links_than_telegram_accepts_are_shown(fake: FakeTelegram, outbox: Outbox) -> None:
    outbox.send("".join(f"[{n}](https://a.b/{n}) " for n in range(101)), to="42")
    [message] = fake.messages
    assert "100 (https://a.b/100)" in message["text"]


def test_a_text_that_telegram_finds_too_long_arrives_in_more_pieces(
    fake: FakeTelegram, outbox: Outbox
) -> None:
    fake.max_text_units = 1000
    text = "word " * 700
    receipt = outbox.send(text, to="42")
    sent = " ".join(one["text"] for one in fake.messages)
    assert sent.split() == text.split()
    assert len(receipt.platform_ids) == len(fake.messages) > 3
    assert outbox.steps == [(1, 0)]


def test_a_text_that_is_always_too_long_is_given_up(fake: FakeTelegram, outbox: Outbox) -> None:
    fake.max_text_units = 3
    with pytest.raises(PlatformError, match="too long"):
        outbox.send("word " * 800, to="42")
    assert len(fake.requests) < 10


def test_buttons_that_are_refused_are_left_out(fake: FakeTelegram, adapter: Adapter) -> None:
    message = OutMessage(("Do it? /approve or /reject",), choices=(Choice("Yes", "x" * 65),))
    adapter.send(Target("FriendMessage", "42"), message, progress=lambda sent: None)
    [sent] = fake.messages
    assert sent["text"].startswith("Do it?")
    assert "reply_markup" not in sent


def test_a_text_with_buttons_that_telegram_finds_too_long_arrives_without_them(
    fake: FakeTelegram, adapter: Adapter
) -> None:
    fake.max_text_units = 1000
    message = OutMessage(("word " * 300,), choices=(Choice("Yes", "y"),))
    adapter.send(Target("FriendMessage", "42"), message, progress=lambda sent: None)
    assert len(" ".join(one["text"] for one in fake.messages).split()) == 300


# Your own Bot API server with --local


def read_document(fake: FakeTelegram, adapter: Adapter, path: str, data: bytes = PDF) -> bytes:
    document = {"file_id": fake.add_file(data, path), "file_name": "a.pdf"}
    update = fake.make_update(caption="read it", document=document)
    [message] = adapter.receive(make_request(*fake.make_request(update, "s"))).messages
    return read_all(adapter, message.files[0])


def test_a_file_is_read_from_the_disk_of_a_local_server(
    fake: FakeTelegram, adapter: Adapter, tmp_path: Path
) -> None:
    fake.local_folder = str(tmp_path)
    place = tmp_path / fake.token / "documents"
    place.mkdir(parents=True)
    (place / "file_7.pdf").write_bytes(b"on the disk")
    assert read_document(fake, adapter, "documents/file_7.pdf") == b"on the disk"


def test_a_file_of_a_local_server_elsewhere_is_asked_for(
    fake: FakeTelegram, adapter: Adapter
) -> None:
    fake.local_folder = "/nowhere/telegram-bot-api"
    fake.add_file(PDF, "documents/file_8.pdf")
    assert read_document(fake, adapter, "documents/file_8.pdf") == PDF


@pytest.mark.parametrize("name", ["file_3.c++", "file_4.v2 (final)", "file_5.报告#1?", "a..b"])
def test_the_extension_of_a_file_may_be_any(
    fake: FakeTelegram, adapter: Adapter, tmp_path: Path, name: str
) -> None:
    fake.add_file(PDF, f"documents/{name}")
    fake.local_folder = "/nowhere"
    assert read_document(fake, adapter, f"documents/{name}") == PDF
    fake.local_folder = str(tmp_path)
    (tmp_path / fake.token / "documents").mkdir(parents=True)
    (tmp_path / fake.token / "documents" / name).write_bytes(b"on the disk")
    assert read_document(fake, adapter, f"documents/{name}") == b"on the disk"


def test_a_local_path_never_leads_out_of_the_folder_of_the_bot(
    fake: FakeTelegram, adapter: Adapter, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = tmp_path / fake.token
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    os.mkfifo(folder / "pipe")
    fake.local_folder = str(tmp_path)
    for path in ("link", "../secret.txt", "pipe", ""):
        with pytest.raises(PlatformError) as caught:
            read_document(fake, adapter, path)
        assert fake.token not in str(caught.value)


def test_other_absolute_paths_are_never_read(
    fake: FakeTelegram, adapter: Adapter, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(PlatformError, match="own folder"):
        read_document(fake, adapter, f"{tmp_path}/secret.txt")
