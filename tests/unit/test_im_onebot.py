"""QQ through OneBot 11, in both directions, with a fake implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.errors import SettingsError
from astrbot_api.im.adapter import Adapter, BadSignature, InMessage
from astrbot_api.im.onebot.segments import read_segments
from astrbot_api.testing import FakeOneBot
from astrbot_api.testing.fake_platform import answer_json, make_digest
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
    open_onebot,
    read_all,
)


@pytest.fixture
def fake() -> Iterator[FakeOneBot]:
    with FakeOneBot() as fake:
        yield fake


@pytest.fixture
def adapter(fake: FakeOneBot) -> Iterator[Adapter]:
    with open_onebot(fake) as adapter:
        yield adapter


def receive(adapter: Adapter, fake: FakeOneBot, event: dict[str, Any]) -> InMessage:
    reception = adapter.receive(make_request(*fake.make_request(event)))
    assert reception.status == 204
    [message] = reception.messages
    return message


# Sending


def test_text_arrives_without_the_marks_that_qq_would_show(
    fake: FakeOneBot, outbox: Outbox
) -> None:
    receipt = outbox.send("**Hi** [x](https://a.b/) [CQ:at,qq=all] & <>", to="123")
    [message] = fake.wait_for_messages(1)
    assert (message["action"], message["user_id"]) == ("send_private_msg", 123)
    text = "Hi x (https://a.b/) [CQ:at,qq=all] & <>"
    assert message["message"] == [{"type": "text", "data": {"text": text}}]
    assert receipt.platform_ids == (str(message["message_id"]),)


def test_a_group_is_answered_with_a_quotation_in_the_first_message(
    fake: FakeOneBot, outbox: Outbox
) -> None:
    outbox.send("a", "b", to="987", type="GroupMessage", reply_to="-55")
    first, second = fake.wait_for_messages(2)
    assert (first["action"], first["group_id"]) == ("send_group_msg", 987)
    assert first["message"][0] == {"type": "reply", "data": {"id": "-55"}}
    assert [one["type"] for one in second["message"]] == ["text"]


def test_a_number_behind_an_at_calls_a_member_of_the_group(
    fake: FakeOneBot, outbox: Outbox
) -> None:
    text = "@12345678 ask @all, bob@12345678.com or @12345678x"
    outbox.send(text, to="987", type="GroupMessage")
    outbox.send(text, to="123")
    group, private = fake.wait_for_messages(2)
    assert group["message"] == [
        {"type": "at", "data": {"qq": "12345678"}},
        {"type": "text", "data": {"text": text[9:]}},
    ]
    assert private["message"] == [{"type": "text", "data": {"text": text}}]


def test_a_long_text_arrives_in_pieces_that_are_reported(fake: FakeOneBot, outbox: Outbox) -> None:
    outbox.send("好" * 7000, to="123")
    assert [len(x["message"][0]["data"]["text"]) for x in fake.messages] == [3000, 3000, 1000]
    assert outbox.steps == [(0, 3000), (0, 3000), (1, 0)]


def test_a_table_that_would_be_too_long_arrives_as_markdown(
    fake: FakeOneBot, outbox: Outbox
) -> None:
    table = "| a | b |\n|---|---|\n" + f"| {'x' * 59} | y |\n" + "| z | y |\n" * 100
    outbox.send(table, to="123")
    [message] = fake.wait_for_messages(1)
    assert message["message"][0]["data"]["text"] == table.strip()


def test_pictures_recordings_and_files_arrive_with_their_bytes(
    fake: FakeOneBot, outbox: Outbox
) -> None:
    large = make_file("video", "v.mp4", "video/mp4", bytes(range(256)) * 4099)
    outbox.send(PICTURE, RECORDING, large, DOCUMENT, to="123")
    picture, recording, video, document = fake.wait_for_messages(4)
    assert picture["message"][0]["bytes"] == PNG
    assert recording["message"][0]["bytes"] == OGG
    assert video["message"][0]["bytes"] == bytes(range(256)) * 4099
    assert document["action"] == "upload_private_file"
    assert (document["name"], document["data"]) == ("报告.pdf", PDF)
    assert outbox.steps == [(1, 0)] * 4


def test_an_answer_may_have_no_message_id(
    fake: FakeOneBot, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = answer_json({"status": "async", "retcode": 1, "data": None})
    monkeypatch.setattr(fake, "answer", lambda request: accepted)
    assert outbox.send("hi", to="123").platform_ids == ()


def test_a_wrong_address_is_named(fake: FakeOneBot, outbox: Outbox) -> None:
    fake.fail_next(404)
    with pytest.raises(PlatformError, match="check base_url"):
        outbox.send("hi", to="123")


def test_a_file_goes_into_the_group(fake: FakeOneBot, outbox: Outbox) -> None:
    outbox.send(DOCUMENT, to="987", type="GroupMessage")
    assert (fake.messages[0]["action"], fake.messages[0]["group_id"]) == ("upload_group_file", 987)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(fake: FakeOneBot) -> None:
    with open_adapter(
        "onebot", base_url=fake.url, access_token=fake.access_token, max_file_mb=1
    ) as adapter:
        large = make_file("file", "x.bin", "application/octet-stream", bytes(1024 * 1024 + 1))
        with pytest.raises(PlatformError, match="max_file_mb"):
            Outbox(adapter).send(large, to="123")
    assert not fake.requests


@pytest.mark.parametrize("session", ["", "alice", "0", "-5", "１２", "1;2"])
def test_a_session_that_is_no_number_is_a_final_error(outbox: Outbox, session: str) -> None:
    with pytest.raises(PlatformError, match="QQ number") as caught:
        outbox.send("hi", to=session)
    assert not caught.value.retryable


def test_a_kind_of_session_that_qq_lacks_is_a_final_error(outbox: Outbox) -> None:
    with pytest.raises(PlatformError, match="FriendMessage and GroupMessage only"):
        outbox.send("hi", to="123", type="OtherMessage")


def test_a_failed_retcode_is_final_with_its_words(fake: FakeOneBot, outbox: Outbox) -> None:
    fake.known = {1}
    with pytest.raises(PlatformError, match="failed with 100: 群聊不存在") as caught:
        outbox.send("hi", to="987", type="GroupMessage")
    assert not caught.value.retryable
    fake.access_token = ""
    with (
        pytest.raises(PlatformError, match="failed with 100: 群聊不存在"),
        open_adapter("onebot", base_url=fake.url) as adapter,
    ):
        Outbox(adapter).send("hi", to="987", type="GroupMessage")


def test_a_wrong_token_is_named_and_never_shown(fake: FakeOneBot) -> None:
    with (
        open_adapter("onebot", base_url=fake.url, access_token="wrong-token") as adapter,
        pytest.raises(PlatformError, match="access token") as caught,
    ):
        Outbox(adapter).send("hi", to="123")
    assert "wrong-token" not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize(("status", "wait_s"), [(429, 7), (500, None), (502, None)])
def test_429_and_5xx_are_retryable(
    fake: FakeOneBot, outbox: Outbox, status: int, wait_s: int | None
) -> None:
    fake.fail_next(status, retry_after_s=wait_s)
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="123")
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, wait_s)
    outbox.send("hi", to="123")
    assert len(fake.messages) == 1


def test_connection_refused_is_retryable(fake: FakeOneBot, outbox: Outbox) -> None:
    fake.refuse()
    with pytest.raises(PlatformError) as caught:
        outbox.send("hi", to="123")
    assert caught.value.retryable


# Receiving


def test_documented_event_is_read(adapter: Adapter, fake: FakeOneBot) -> None:
    # Source: https://github.com/botuniverse/onebot-11/blob/master/communication/http-post.md
    event = {
        "time": 1515204254,
        "self_id": 10001000,
        "post_type": "message",
        "message_type": "private",
        "sub_type": "friend",
        "message_id": 12,
        "user_id": 12345678,
        "message": "你好～",
        "raw_message": "你好～",
        "font": 456,
        "sender": {"nickname": "小不点", "sex": "male", "age": 18},
    }
    assert receive(adapter, fake, event) == InMessage(
        event_id="1515204254/12", message_type="FriendMessage", session_id="12345678",
        sender_id="12345678", sender_name="小不点", text="你好～", platform_message_id="12",
    )  # fmt: skip


@pytest.mark.parametrize("secret", ["", "wrong"])
def test_a_wrong_signature_is_refused(adapter: Adapter, fake: FakeOneBot, secret: str) -> None:
    with pytest.raises(BadSignature):
        adapter.receive(make_request(*fake.make_request(fake.make_event("hi"), secret)))


def test_a_changed_body_is_refused(adapter: Adapter, fake: FakeOneBot) -> None:
    headers, body = fake.make_request(fake.make_event("hi"))
    with pytest.raises(BadSignature):
        adapter.receive(make_request(headers, body.replace(b"hi", b"ho")))


def test_without_a_secret_nothing_comes_in(fake: FakeOneBot) -> None:
    with open_adapter("onebot", base_url=fake.url) as adapter, pytest.raises(BadSignature):
        adapter.receive(make_request(*fake.make_request(fake.make_event("hi"), "")))


@pytest.mark.parametrize(
    ("message", "text", "addressed"),
    [
        ([{"type": "at", "data": {"qq": 10001000}}, {"type": "text", "data": {"text": " hi"}}],
         "hi", True),
        ("[CQ:at,qq=10001000] /help", "/help", True),
        ("[CQ:at,qq=55,name=Bob] hi", "@Bob  hi", False),
        ("[CQ:at,qq=all] hi", "@all  hi", False),
        ("hi &#91;CQ:at,qq=10001000&#93; &amp;#91;", "hi [CQ:at,qq=10001000] &#91;", False),
    ],
)  # fmt: skip
def test_a_group_message_is_addressed_when_the_bot_is_called(
    adapter: Adapter, fake: FakeOneBot, message: Any, text: str, addressed: bool
) -> None:
    read = receive(adapter, fake, fake.make_event(message, group_id=987))
    assert (read.text, read.addressed) == (text, addressed)
    assert (read.message_type, read.session_id, read.sender_id) == (
        "GroupMessage", "987", "12345678",
    )  # fmt: skip


def test_a_picture_comes_in_from_its_address(adapter: Adapter, fake: FakeOneBot) -> None:
    data = {"file": "a.png", "url": fake.add_file(PNG)}
    event = fake.make_event([{"type": "image", "data": data}])
    [file] = receive(adapter, fake, event).files
    assert (file.type, file.filename, read_all(adapter, file)) == ("image", "a.png", PNG)


def test_a_file_without_address_comes_in_through_the_implementation(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    fake.files["f.pdf"] = PDF
    event = fake.make_event([{"type": "file", "data": {"file": "f.pdf"}}])
    [file] = receive(adapter, fake, event).files
    assert (file.type, file.filename, read_all(adapter, file)) == ("file", "f.pdf", PDF)


def test_a_path_on_the_disk_of_the_implementation_is_named_as_the_reason(
    adapter: Adapter, fake: FakeOneBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answer_json({"status": "ok", "retcode": 0, "data": {"file": "/a", "url": "/a"}})
    event = fake.make_event([{"type": "video", "data": {"file": "v.mp4"}}])
    [file] = receive(adapter, fake, event).files
    monkeypatch.setattr(fake, "answer", lambda request: found)
    with pytest.raises(PlatformError, match="a path on its own disk"):
        read_all(adapter, file)


def test_a_recording_without_address_comes_in_as_mp3(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.files["a.amr"] = OGG
    event = fake.make_event([{"type": "record", "data": {"file": "a.amr"}}])
    [file] = receive(adapter, fake, event).files
    assert read_all(adapter, file) == OGG
    [asked] = fake.requests
    assert (asked.path, asked.read_fields()["out_format"]) == ("/get_record", "mp3")


def test_a_file_comes_from_a_host_that_the_settings_name(fake: FakeOneBot) -> None:
    url = fake.add_file(PNG).replace("127.0.0.1", "localhost")
    with open_adapter(
        "onebot", base_url=fake.url, secret=fake.secret, file_hosts=["localhost"]
    ) as adapter:
        event = fake.make_event([{"type": "image", "data": {"file": "a.png", "url": url}}])
        [file] = receive(adapter, fake, event).files
        assert read_all(adapter, file) == PNG


@pytest.mark.parametrize("group_id", [987, None])
def test_a_document_of_a_chat_comes_in_by_its_id(
    adapter: Adapter, fake: FakeOneBot, group_id: int | None
) -> None:
    fake.add_file(PDF, "f.pdf")
    fake.documents["/a1b2"] = "f.pdf"
    data = {"file": "f.pdf", "file_id": "/a1b2", "url": "", "busid": 102}
    event = fake.make_event([{"type": "file", "data": data}], group_id=group_id)
    [file] = receive(adapter, fake, event).files
    assert read_all(adapter, file) == PDF
    [asked, _] = fake.requests
    kind = "private" if group_id is None else "group"
    assert asked.path == f"/get_{kind}_file_url"
    assert asked.read_fields().get("group_id") == group_id


def test_a_document_that_its_chat_no_longer_has_is_asked_for_otherwise(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    fake.files["f.pdf"] = PDF
    event = fake.make_event([{"type": "file", "data": {"file": "x.pdf", "file_id": "f.pdf"}}])
    [file] = receive(adapter, fake, event).files
    assert read_all(adapter, file) == PDF
    assert [one.path for one in fake.requests] == ["/get_private_file_url", "/get_file"]


def test_a_document_from_lagrange_has_its_name_and_is_asked_for_with_its_sender(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    fake.add_file(PDF, "f.pdf")
    fake.documents["abc"] = "f.pdf"
    data = {"file_name": "f.pdf", "file_hash": "h1", "file_id": "abc", "url": ""}
    event = fake.make_event([{"type": "file", "data": data}], user_id=31)
    [file] = receive(adapter, fake, event).files
    assert (file.filename, read_all(adapter, file)) == ("f.pdf", PDF)
    assert fake.requests[0].read_fields() == {"user_id": 31, "file_hash": "h1", "file_id": "abc"}


def test_a_picture_whose_address_has_expired_is_asked_for(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    fake.files["a.png"] = PNG
    data = {"file": "a.png", "url": f"{fake.url}/files/expired"}
    [file] = receive(adapter, fake, fake.make_event([{"type": "image", "data": data}])).files
    assert read_all(adapter, file) == PNG
    fake.files.clear()
    with pytest.raises(PlatformError, match="404"):
        adapter.open_file(file.source)


NEWS = """{"app":"com.tencent.structmsg","prompt":"[分享]今日新闻",
"meta":{"news":{"title":"今日新闻","desc":"明天放假","jumpUrl":"https://a.example/1"}}}"""


@pytest.mark.parametrize(
    ("type", "data", "text"),
    [
        ("json", {"data": NEWS}, "[card: [分享]今日新闻 | 今日新闻 | 明天放假 | https://a.example/1]"),
        ("share", {"url": "https://a.example", "title": "A", "content": "B"},
         "[share: A | B | https://a.example]"),
        ("location", {"lat": "39.8", "lon": "116.3", "title": "公园"},
         "[location: 公园 | 39.8 | 116.3]"),
        ("contact", {"type": "qq", "id": "10001000"}, "[contact: qq | 10001000]"),
        ("markdown", {"content": "# A"}, "# A"),
        ("dice", {"result": "4"}, "[dice: 4]"),
        ("rps", {"result": 1}, "[rps: 1]"),
        ("flashtransfer", {"fileSetId": "1"}, "[flashtransfer, which cannot be read]"),
        ("flash_file", {"title": "Photos", "file_set_id": "1"}, "[flash_file: Photos]"),
        ("face", {"id": "178", "raw": {"faceText": "/斜眼笑"}}, "[斜眼笑]"),
    ],
)  # fmt: skip
def test_what_is_shared_without_words_is_given_as_words(
    adapter: Adapter, fake: FakeOneBot, type: str, data: Any, text: str
) -> None:
    event = fake.make_event([{"type": type, "data": data}])
    assert receive(adapter, fake, event).text == text


@pytest.mark.parametrize("card", ["", "[]", "{", '{"meta":[]}', '{"meta":{"a":{"title":5}}}'])
def test_a_card_that_says_nothing_is_left_out(
    adapter: Adapter, fake: FakeOneBot, card: str
) -> None:
    text = {"type": "text", "data": {"text": "hi"}}
    event = fake.make_event([{"type": "json", "data": {"data": card}}, text])
    assert receive(adapter, fake, event).text == "hi"


def test_a_sticker_of_the_shop_is_its_words_and_its_picture(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    data = {"summary": "[贴贴]", "url": fake.add_file(PNG, "x.gif"), "emoji_id": "1"}
    message = receive(adapter, fake, fake.make_event([{"type": "mface", "data": data}]))
    assert message.text == "[贴贴]"
    assert [read_all(adapter, file) for file in message.files] == [PNG]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/x",
        "http://qq.com.evil.example/x",
        "http://evilqq.com/x",
        "http:///x",
    ],
)
def test_other_addresses_are_never_fetched(adapter: Adapter, fake: FakeOneBot, url: str) -> None:
    event = fake.make_event([{"type": "image", "data": {"file": "a.png", "url": url}}])
    [file] = receive(adapter, fake, event).files
    with pytest.raises(PlatformError, match="file_hosts"):
        adapter.open_file(file.source)


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": 10001000},
        {"post_type": "message_sent"},
        {"post_type": "notice"},
        {"sub_type": "notice"},
        {"message": []},
        {"message": 5},
        {"message_type": "channel"},
        {"user_id": "x"},
    ],
)
def test_what_is_no_question_is_left_out(
    adapter: Adapter, fake: FakeOneBot, change: dict[str, Any]
) -> None:
    event = fake.make_event("hi") | change
    assert adapter.receive(make_request(*fake.make_request(event))).messages == ()


def test_segments_without_data_lose_no_message(adapter: Adapter, fake: FakeOneBot) -> None:
    text = {"type": "text", "data": {"text": "hi"}}
    event = fake.make_event([{"type": "shake", "data": None}, {"type": "rps"}, text])
    assert receive(adapter, fake, event).text == "hi"


def test_a_body_that_is_no_json_is_a_bad_request(adapter: Adapter, fake: FakeOneBot) -> None:
    headers = {"X-Signature": f"sha1={make_digest(fake.secret, b'{', 'sha1')}"}
    assert adapter.receive(make_request(headers, b"{")).status == 400


def test_cq_codes_are_read() -> None:
    # Source: https://github.com/botuniverse/onebot-11/blob/master/message/string.md
    text = "[CQ:face,id=178]看看我刚拍的照片[CQ:image,file=123.jpg,url=http://a/?b&amp;c&#44;d]"
    assert read_segments(text) == [
        {"type": "face", "data": {"id": "178"}},
        {"type": "text", "data": {"text": "看看我刚拍的照片"}},
        {"type": "image", "data": {"file": "123.jpg", "url": "http://a/?b&c,d"}},
    ]


@pytest.mark.parametrize("settings", [{}, {"base_url": "127.0.0.1:3000"}])
def test_wrong_settings_are_named(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="base_url"), open_adapter("onebot", **settings):
        pass
