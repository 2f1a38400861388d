"""References of Slack messages: shared messages, and the thread of a mention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.im.adapter import Adapter, InMessage
from astrbot_api.im.pending import read_message, write_message
from astrbot_api.testing import FakeSlack
from tests.im_platforms import PNG, make_request, open_slack, read_all

CHANNEL = "C123ABC456"


@pytest.fixture
def fake() -> Iterator[FakeSlack]:
    with FakeSlack() as fake:
        yield fake


@pytest.fixture
def adapter(fake: FakeSlack) -> Iterator[Adapter]:
    with open_slack(fake) as adapter:
        yield adapter


def receive(adapter: Adapter, fake: FakeSlack, text: str, **event: Any) -> InMessage:
    request = fake.make_request(fake.make_event(text, **event))
    [message] = adapter.receive(make_request(*request)).messages
    return read_message(write_message(message))


def said(ts: str, text: str, user: str = "U7", **more: Any) -> dict[str, Any]:
    return {"type": "message", "user": user, "text": text, "ts": ts, "thread_ts": "1.1", **more}


def mention(adapter: Adapter, fake: FakeSlack, *thread: dict[str, Any]) -> InMessage:
    """Return a mention at the end of a thread, with its fetched messages."""
    asked = said("9.9", f"<@{fake.bot_user}> what now?")
    fake.threads[CHANNEL, "1.1"] = [*thread, asked]
    return adapter.complete(receive(adapter, fake, asked["text"], ts="9.9", thread_ts="1.1"))


def test_a_mention_in_a_thread_brings_what_was_said_before(
    adapter: Adapter, fake: FakeSlack
) -> None:
    shown = fake.add_file(PNG, "plan.png", "image/png")
    message = mention(
        adapter, fake, said("1.1", "Ship &amp; run?", files=[shown]), said("1.2", "No.")
    )
    assert (message.text, message.quoted) == ("what now?", "@U7: Ship & run?\n@U7: No.")
    assert [read_all(adapter, one) for one in message.files] == [PNG]
    assert message.more == ""


def text_of(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


def test_alerts_without_text_are_quoted(adapter: Adapter, fake: FakeSlack) -> None:
    alert = {"pretext": "Firing", "title": "Disk full", "fallback": "[FIRING] Disk", "fields": [
        {"title": "Host", "value": "db&amp;1"},
    ]}  # fmt: skip
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Build failed"}},
        {"type": "section", "text": text_of("Branch main"), "fields": [text_of("Took 3 min")]},
        {"type": "actions", "elements": [{"type": "button", "text": text_of("Retry")}]},
    ]
    message = mention(
        adapter, fake, said("1.1", "", attachments=[alert]), said("1.2", "", blocks=blocks)
    )
    assert (message.quoted or "").splitlines() == [
        "@U7: Firing", "Disk full", "Host: db&1", "@U7: Build failed", "Branch main", "Took 3 min",
    ]  # fmt: skip


def test_an_alert_is_quoted_with_what_its_text_leaves_out(
    adapter: Adapter, fake: FakeSlack
) -> None:
    cells = [{"type": "raw_text", "text": "host"}, {"type": "rich_text", "elements": [
        {"type": "rich_text_section", "elements": [{"type": "text", "text": "db1"}]},
    ]}]  # fmt: skip
    blocks = [
        {"type": "rich_text", "elements": [{"type": "text", "text": "New alert"}]},
        {"type": "section", "text": {"type": "mrkdwn", "text": "Disk is 93 % full"}},
        {"type": "table", "rows": [cells, cells]},
    ]
    attachments = [
        {"title": "Runbook", "fields": [{"title": "Team", "value": "infra"}]},
        {"title": "A web page", "from_url": "https://a.example"},
        {"text": "Seen before", "from_url": "https://slack.example/p1", "is_share": True},
    ]
    alert = said("1.1", "New alert", blocks=blocks, attachments=attachments)
    assert (mention(adapter, fake, alert).quoted or "").splitlines() == [
        "@U7: New alert", "Disk is 93 % full", "| host | db1 |", "| host | db1 |", "Runbook",
        "Team: infra", "Seen before",
    ]  # fmt: skip


def test_a_message_of_blocks_alone_is_read(adapter: Adapter, fake: FakeSlack) -> None:
    line = [
        {"type": "text", "text": "ask "}, {"type": "user", "user_id": "U2"},
        {"type": "text", "text": " about "}, {"type": "link", "url": "https://x.y/"},
    ]  # fmt: skip
    written = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": line}]}]
    message = receive(adapter, fake, "", channel="D42", blocks=written)
    assert message.text == "ask @U2 about https://x.y/"
    shared = {"is_msg_unfurl": True, "text": "", "fallback": "[no preview]", "message_blocks": [
        {"message": {"blocks": written}},
    ]}  # fmt: skip
    message = receive(adapter, fake, "", channel="D42", attachments=[shared])
    assert message.quoted == "ask @U2 about https://x.y/"


def test_what_the_bot_has_seen_is_not_quoted_again(adapter: Adapter, fake: FakeSlack) -> None:
    own = said("1.3", "An answer.", fake.bot_user, bot_id="B1")
    called = said("1.2", f"<@{fake.bot_user}> hello")
    message = mention(adapter, fake, said("1.1", "old"), called, own, said("1.4", "new"))
    assert message.quoted == "@U7: new"
    empty = said("1.4", "")
    assert mention(adapter, fake, own, empty, said("1.5", "new")).quoted == "@U7: new"
    assert mention(adapter, fake, said("1.1", "old"), called, own).quoted is None


def test_long_threads_are_cut(adapter: Adapter, fake: FakeSlack) -> None:
    thread = [said(f"1.{number}", f"n{number}") for number in range(100, 150)]
    quoted = mention(adapter, fake, *thread).quoted or ""
    assert quoted.splitlines() == [f"@U7: n{number}" for number in range(130, 150)]
    thread = [said(f"1.{number}", f"n{number}") for number in range(100, 300)]
    assert mention(adapter, fake, *thread).quoted == "@U7: n100"
    assert len(mention(adapter, fake, said("1.1", "x" * 50_000)).quoted or "") == 20_000


def test_a_thread_that_slack_does_not_show_is_an_error(adapter: Adapter, fake: FakeSlack) -> None:
    message = receive(adapter, fake, f"<@{fake.bot_user}> hi", ts="9.9", thread_ts="1.1")
    with pytest.raises(PlatformError, match="thread_not_found"):
        adapter.complete(message)


def test_a_message_that_begins_a_thread_asks_nobody(adapter: Adapter, fake: FakeSlack) -> None:
    for more in ({}, {"ts": "1.1", "thread_ts": "1.1"}):
        assert receive(adapter, fake, f"<@{fake.bot_user}> hi", **more).more == ""


def test_shared_messages_are_quoted_and_previews_are_not(adapter: Adapter, fake: FakeSlack) -> None:
    shown = fake.add_file(PNG, "plan.png", "image/png")
    attachments = [
        {"is_msg_unfurl": True, "is_share": True, "author_name": "Ann", "text": "Ship it"}
        | {"files": [shown]},
        {"title": "A page", "text": "preview"},
        "nonsense",
    ]
    message = receive(adapter, fake, "is that so?", channel="D42", attachments=attachments)
    assert (message.text, message.quoted) == ("is that so?", "Ann: Ship it")
    assert [one.filename for one in message.files] == ["plan.png"]


def test_a_shared_message_alone_is_a_message(adapter: Adapter, fake: FakeSlack) -> None:
    attachments = [{"is_msg_unfurl": True, "fallback": "[10:00] Ann: hi"}]
    message = receive(adapter, fake, "", channel="D42", attachments=attachments)
    assert (message.text, message.quoted) == ("", "[10:00] Ann: hi")
