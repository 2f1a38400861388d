"""Pending tool calls are decided with buttons in a messenger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api import create_app

from ..servers import add_config
from .messengers import HookRequest, Slack, Telegram
from .test_im_platforms import SETTINGS, Bot

_CONFIG = """
[provider]
type = "mock"
[agent]
titles = false
[tools]
approve = ["calculate"]
"""

_ASKED = 'TOOL=calculate TOOLARGS={"expression":"6*7"}'


class Pressing(Bot):
    """A bot on a messenger with buttons."""

    def press(self, message: dict[str, Any], label: str, *, stranger: bool = False) -> HookRequest:
        """Return the request for a pressed button."""
        if isinstance(self.messenger, Slack):
            user = "U0STRANGER" if stranger else "U061F7AUR"
            return self.messenger.slack.make_press(message, label, user=user)
        assert isinstance(self.messenger, Telegram)
        telegram = self.messenger.telegram
        update = telegram.make_press(message, label, sender_id=7 if stranger else 1111111)
        return telegram.make_request(update, "secret")

    def messages(self, count: int) -> list[dict[str, Any]]:
        return self.messenger.fake.wait_for_messages(count)


@pytest.fixture(params=[Telegram, Slack], ids=lambda one: one.type)
def bot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pressing]:
    messenger = request.param()
    add_config(tmp_path, _CONFIG)
    with messenger.fake:
        (tmp_path / "bots.toml").write_text(messenger.table())
        opened = Pressing(create_app({"ASTRBOT_DATA_DIR": str(tmp_path), **SETTINGS}))
        opened.messenger = messenger
        yield opened
        opened.close()


def test_a_button_approves_a_call_and_the_turn_continues(bot: Pressing) -> None:
    assert bot.hook(bot.messenger.say(_ASKED)) == 200
    [question] = bot.messages(1)
    assert bot.messenger.read_text(question).startswith("This needs your approval:\ncalculate")
    assert bot.hook(bot.press(question, "Approve")) == 200
    said = sorted(bot.texts(3)[1:])
    assert said == ["Approved: calculate.", "tool said: 42"]


def test_a_question_hides_nothing_of_the_arguments(bot: Pressing) -> None:
    hiding = '{"expression":"6*7\u202e```[x](https://x)' + "z" * 2000 + '"}'
    assert bot.hook(bot.messenger.say(f"TOOL=calculate TOOLARGS={hiding}")) == 200
    [question] = bot.messages(1)
    text = bot.messenger.read_text(question)
    assert r"6*7\u202e\u0060\u0060\u0060[x](https://x)" in text
    assert "more characters" in text.split("z" * 900)[1]


def test_a_button_rejects_a_call(bot: Pressing) -> None:
    bot.hook(bot.messenger.say(_ASKED))
    [question] = bot.messages(1)
    bot.hook(bot.press(question, "Reject"))
    said = sorted(bot.texts(3)[1:])
    assert said[0] == "Rejected: calculate."
    assert "this call was rejected" in said[1]


def test_a_button_of_an_old_question_decides_no_later_call(bot: Pressing) -> None:
    bot.hook(bot.messenger.say(_ASKED))
    [old] = bot.messages(1)
    bot.hook(bot.press(old, "Reject"))
    bot.texts(3)
    bot.hook(bot.messenger.say(_ASKED))
    new = bot.messages(4)[3]
    bot.hook(bot.press(old, "Approve"))
    assert bot.texts(5)[4] == "No tool call waits for approval in this session."
    bot.hook(bot.press(new, "Approve"))
    assert sorted(bot.texts(7)[5:]) == ["Approved: calculate.", "tool said: 42"]


def test_in_a_group_only_the_author_of_the_message_decides(bot: Pressing) -> None:
    bot.hook(bot.messenger.say_in_group(_ASKED, to_bot=True))
    [question] = bot.messages(1)
    bot.hook(bot.press(question, "Approve", stranger=True))
    assert bot.texts(2)[1] == "No tool call waits for approval in this session."
    bot.hook(bot.press(question, "Approve"))
    assert sorted(bot.texts(4)[2:]) == ["Approved: calculate.", "tool said: 42"]


def test_a_forged_button_press_runs_nothing(bot: Pressing) -> None:
    bot.hook(bot.messenger.say(_ASKED))
    [question] = bot.messages(1)
    headers, body = bot.press(question, "Approve")
    signed = ("X-Telegram-Bot-Api-Secret-Token", "X-Slack-Signature")
    forged = headers | {name: "x" for name in signed if name in headers}
    assert bot.hook((forged, body)) == 401
    assert bot.count_rows("run") == 1
