"""References of QQ messages: quotes, forwarded bundles, temporary sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.im.adapter import Adapter, InMessage
from astrbot_api.im.pending import read_message, write_message
from astrbot_api.testing import FakeOneBot
from tests.im_platforms import (
    DOCUMENT,
    PNG,
    Outbox,
    make_request,
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


def say(text: str) -> dict[str, Any]:
    return {"type": "text", "data": {"text": text}}


def quote(number: str) -> dict[str, Any]:
    return {"type": "reply", "data": {"id": number}}


def forward(number: str) -> dict[str, Any]:
    return {"type": "forward", "data": {"id": number}}


def picture(fake: FakeOneBot, name: str = "a.png") -> dict[str, Any]:
    return {"type": "image", "data": {"file": name, "url": fake.add_file(PNG, name)}}


def node(name: str, *content: Any) -> dict[str, Any]:
    """Return a message of a bundle in NapCat's format."""
    return {"user_id": 5, "sender": {"user_id": 5, "nickname": name}, "message": list(content)}


def read(adapter: Adapter, fake: FakeOneBot, *message: Any, **event: Any) -> InMessage:
    """Return a message after everything was fetched, and stored in between."""
    made = fake.make_event(message[0] if isinstance(message[0], str) else list(message), **event)
    [found] = adapter.receive(make_request(*fake.make_request(made))).messages
    assert not fake.requests  # Receiving sends no request.
    return adapter.complete(read_message(write_message(found)))


# Quoted


def test_the_quoted_text_and_its_files_come_with_a_message(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    number = fake.add_message([say("周五发布 "), picture(fake)], group_id=77)
    message = read(adapter, fake, quote(number), say("改到周一"), group_id=77)
    assert (message.text, message.quoted, message.more) == (
        "改到周一", "周五发布 [image a.png]", "",
    )  # fmt: skip
    [file] = message.files
    assert read_all(adapter, file) == PNG


def test_a_quotation_in_codes_is_fetched_too(adapter: Adapter, fake: FakeOneBot) -> None:
    number = fake.add_message("a &amp; b[CQ:face,id=1]")
    message = read(adapter, fake, f"[CQ:reply,id={number}]why?")
    assert (message.text, message.quoted) == ("why?", "a & b")


def test_half_an_emoji_as_javascript_writes_it_loses_no_message(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    number = fake.add_message([say("tea \ud83c")], group_id=77)
    message = read(adapter, fake, quote(number), say("why \ud83d"), group_id=77)
    assert (message.text, message.quoted) == ("why \ufffd", "tea \ufffd")


def test_a_mention_alone_is_about_what_it_quotes(adapter: Adapter, fake: FakeOneBot) -> None:
    number = fake.add_message([say("what is tea?")], group_id=77)
    message = read(
        adapter, fake, quote(number), {"type": "at", "data": {"qq": fake.self_id}}, group_id=77
    )
    assert (message.text, message.quoted, message.addressed) == ("", "what is tea?", True)


def test_an_id_that_is_no_number_is_asked_for_as_it_is(adapter: Adapter, fake: FakeOneBot) -> None:
    read(adapter, fake, quote("7-abc"), say("why?"))
    assert fake.requests[0].read_fields() == {"message_id": "7-abc"}


def test_a_quoted_message_that_is_gone_is_named(adapter: Adapter, fake: FakeOneBot) -> None:
    message = read(adapter, fake, quote("-99"), say("why?"))
    assert message.text == "why?"
    assert message.quoted == "[The quoted message could not be read.]"


@pytest.mark.parametrize(
    ("stored", "event"),
    [
        ({"group_id": 78}, {"group_id": 77}),
        ({"user_id": 6}, {"group_id": 77}),
        ({"user_id": 6, "sender": {"user_id": 6}}, {"user_id": 5}),
    ],
)
def test_a_message_of_another_chat_is_not_quoted(
    adapter: Adapter, fake: FakeOneBot, stored: dict[str, Any], event: dict[str, Any]
) -> None:
    number = fake.add_message([say("secret")], **stored)
    message = read(adapter, fake, quote(number), say("why?"), **event)
    assert "secret" not in str(message)


def test_a_message_without_references_asks_nobody(adapter: Adapter, fake: FakeOneBot) -> None:
    [message] = adapter.receive(make_request(*fake.make_request(fake.make_event("hi")))).messages
    assert message.more == ""


# Forwarded


def test_a_bundle_alone_is_a_message(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.bundles["b1"] = [node("Ann", say("one\ntwo")), node("Bo", picture(fake), say("three"))]
    message = read(adapter, fake, forward("b1"))
    assert message.text == (
        "[Forwarded messages]\nAnn: one\n  two\nBo: [image a.png]three"
    )  # fmt: skip
    assert [read_all(adapter, one) for one in message.files] == [PNG]


def test_a_bundle_that_comes_as_a_card_is_fetched(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.bundles["b1"] = [node("Ann", say("one"))]
    card = '{"app":"com.tencent.multimsg","prompt":"x","meta":{"detail":{"resid":"b1"}}}'
    message = read(adapter, fake, {"type": "json", "data": {"data": card}})
    assert message.text == "[Forwarded messages]\nAnn: one"


def test_a_bundle_of_the_standard_is_read(adapter: Adapter, fake: FakeOneBot) -> None:
    nodes = {"user_id": "5", "nickname": "Ann", "content": "x[CQ:at,qq=7]"}
    fake.bundles["b1"] = [{"type": "node", "data": nodes}]
    assert read(adapter, fake, forward("b1")).text.endswith("\nAnn: x@7")


def test_a_quoted_bundle_and_one_in_another_are_read(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.bundles["in"] = [node("Bo", say("deep"))]
    fake.bundles["out"] = [node("Ann", forward("in"))]
    message = read(adapter, fake, quote(fake.add_message([forward("out")])), say("sum it up"))
    assert message.text == "sum it up"
    assert message.quoted is not None
    assert message.quoted.startswith("[Forwarded messages]\nAnn: [Forwarded messages]")
    assert message.quoted.endswith("Bo: deep")


def test_a_bundle_whose_content_is_in_the_event_is_not_fetched(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    inline = {"type": "forward", "data": {"id": "b1", "content": [node("Ann", say("here"))]}}
    assert read(adapter, fake, inline).text.endswith("Ann: here")
    assert not fake.requests


def test_a_bundle_that_is_gone_is_named(adapter: Adapter, fake: FakeOneBot) -> None:
    message = read(adapter, fake, say("look: "), forward("gone"))
    assert message.text == "look:\n[Forwarded messages, which could not be read]"


def test_a_bundle_in_itself_ends(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.bundles["b1"] = [node("Ann", forward("b1"), forward("b1"), forward("b1"))] * 50
    message = read(adapter, fake, forward("b1"))
    assert "could not be read" in message.text
    assert len(fake.requests) <= 8


def test_a_message_of_many_bundles_has_few_fetched(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.bundles = {str(number): [node("Ann", say(f"n{number}"))] for number in range(30)}
    message = read(adapter, fake, *(forward(str(number)) for number in range(30)))
    assert len(fake.requests) == 8
    assert message.text.count("Ann: ") == 8
    assert message.text.count("could not be read") == 22


def test_long_bundles_are_cut(adapter: Adapter, fake: FakeOneBot) -> None:
    fake.bundles["b1"] = [node("Ann", say(str(number))) for number in range(500)]
    assert read(adapter, fake, forward("b1")).text.endswith("Ann: 99\n[… cut off here]")
    fake.requests.clear()
    fake.bundles["b1"] = [node("Ann", say("长" * 100_000))]
    assert len(read(adapter, fake, forward("b1")).text) < 21_000


@pytest.mark.parametrize(
    "nodes", [["x", 5, None], [{"message": 5}], [{"sender": 7, "message": [{"type": 1}]}]]
)
def test_bundles_of_nonsense_do_no_harm(
    adapter: Adapter, fake: FakeOneBot, nodes: list[Any]
) -> None:
    fake.bundles["b1"] = nodes
    assert read(adapter, fake, forward("b1")).text.startswith("[Forwarded messages]")


def test_a_slow_implementation_is_not_waited_for(
    adapter: Adapter, fake: FakeOneBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.im.onebot.references._MAX_S", 0.0)
    message = read(adapter, fake, quote("1"), say("why?"))
    assert message.text == "why?"
    assert not fake.requests


# Temporary sessions


def test_an_answer_in_a_temporary_session_names_its_group(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    fake.strangers[5] = 77
    sender = {"nickname": "Ann", "group_id": 77}
    event = fake.make_event("hi", user_id=5, sub_type="group", temp_source=0, sender=sender)
    [message] = adapter.receive(make_request(*fake.make_request(event))).messages
    assert (message.session_id, message.sender_id) == ("5#77", "5")
    outbox = Outbox(adapter)
    outbox.send("hello", DOCUMENT, to=message.session_id)
    assert [(one["user_id"], one["group_id"]) for one in fake.messages] == [(5, 77)] * 2
    with pytest.raises(PlatformError):
        outbox.send("hello", to="5")


def test_a_temporary_session_of_an_unknown_group_is_its_user(
    adapter: Adapter, fake: FakeOneBot
) -> None:
    event = fake.make_event("hi", user_id=5, sub_type="group")
    [message] = adapter.receive(make_request(*fake.make_request(event))).messages
    assert message.session_id == "5"


def test_a_group_has_no_temporary_sessions(adapter: Adapter) -> None:
    with pytest.raises(PlatformError, match="QQ number"):
        Outbox(adapter).send("hi", to="5#77", type="GroupMessage")
