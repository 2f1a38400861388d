"""One interface for all messengers, for tests that apply to all of them."""

from __future__ import annotations

import base64
import json
from typing import Any

from astrbot_api.testing import FakeOneBot, FakeSlack, FakeTelegram, FakeWebhookReceiver
from astrbot_api.testing.fake_platform import FakePlatform

#: Headers and body of a request to a bot's hook.
HookRequest = tuple[dict[str, str], bytes]


class Messenger:
    """A fake platform with one person, and a bot with the id ``bot``."""

    type = ""
    #: Third part of the UMO of the person and of a group, and an id unknown to the platform.
    person = "42"
    group = "77"

    def __init__(self) -> None:
        self.fake: FakePlatform

    def table(self) -> str:
        """Return the bot's table in ``bots.toml``."""
        settings = "".join(f"{key} = {json.dumps(x)}\n" for key, x in self.settings().items())
        return f'[[bot]]\nid = "bot"\ntype = "{self.type}"\n{settings}'

    def settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def say(self, text: str) -> HookRequest:
        """Return the request for a message of the person to the bot."""
        raise NotImplementedError

    def say_in_group(self, text: str, *, to_bot: bool) -> HookRequest:
        """Return the request for a message of the person in a group."""
        raise NotImplementedError

    def show(self, picture: bytes) -> HookRequest:
        """Return the request for a picture from the person."""
        raise NotImplementedError

    def forge(self, text: str) -> HookRequest:
        """Return a forged request."""
        raise NotImplementedError

    def read_text(self, message: dict[str, Any]) -> str:
        """Return the text of a message that the platform received."""
        raise NotImplementedError

    def read_file(self, message: dict[str, Any]) -> bytes:
        """Return the file of a message that the platform received."""
        raise NotImplementedError


class Telegram(Messenger):
    type = "telegram"
    group = "-77"

    def __init__(self) -> None:
        self.fake = self.telegram = FakeTelegram()

    def settings(self) -> dict[str, Any]:
        return {
            "token": self.telegram.token, "base_url": self.telegram.url, "updates": "webhook",
            "username": self.telegram.username, "webhook_secret": "secret",
        }  # fmt: skip

    def _post(self, *arguments: Any, secret: str = "secret", **options: Any) -> HookRequest:
        update = self.telegram.make_update(*arguments, **options)
        return self.telegram.make_request(update, secret)

    def say(self, text: str) -> HookRequest:
        return self._post(text, chat_id=42)

    def say_in_group(self, text: str, *, to_bot: bool) -> HookRequest:
        name = f"@{self.telegram.username} " if to_bot else ""
        return self._post(name + text, chat_id=-77, chat_type="supergroup")

    def show(self, picture: bytes) -> HookRequest:
        file_id = self.telegram.add_file(picture, "photos/1.jpg")
        return self._post(photo=[{"file_id": file_id, "width": 1, "height": 1}], chat_id=42)

    def forge(self, text: str) -> HookRequest:
        return self._post(text, secret="guess")

    def read_text(self, message: dict[str, Any]) -> str:
        return str(message["text"])

    def read_file(self, message: dict[str, Any]) -> bytes:
        return bytes(message["photo"].data)


class OneBot(Messenger):
    type = "onebot"

    def __init__(self) -> None:
        self.fake = self.qq = FakeOneBot()

    def settings(self) -> dict[str, Any]:
        return {
            "base_url": self.qq.url, "access_token": self.qq.access_token,
            "secret": self.qq.secret,
        }  # fmt: skip

    def say(self, text: str) -> HookRequest:
        return self.qq.make_request(self.qq.make_event(text, user_id=42))

    def say_in_group(self, text: str, *, to_bot: bool) -> HookRequest:
        name = f"[CQ:at,qq={self.qq.self_id}] " if to_bot else ""
        return self.qq.make_request(self.qq.make_event(name + text, user_id=42, group_id=77))

    def show(self, picture: bytes) -> HookRequest:
        data = {"file": "a.png", "url": self.qq.add_file(picture)}
        segments = [{"type": "image", "data": data}]
        return self.qq.make_request(self.qq.make_event(segments, user_id=42))

    def forge(self, text: str) -> HookRequest:
        return self.qq.make_request(self.qq.make_event(text), "guess")

    def read_text(self, message: dict[str, Any]) -> str:
        return str(message["message"][-1]["data"]["text"])

    def read_file(self, message: dict[str, Any]) -> bytes:
        return bytes(message["message"][-1]["bytes"])


class Slack(Messenger):
    type = "slack"
    person = "D42"
    group = "C77"

    def __init__(self) -> None:
        self.fake = self.slack = FakeSlack()

    def settings(self) -> dict[str, Any]:
        return {
            "token": self.slack.token, "signing_secret": self.slack.signing_secret,
            "base_url": self.slack.base_url,
        }  # fmt: skip

    def say(self, text: str) -> HookRequest:
        return self.slack.make_request(self.slack.make_event(text, channel="D42"))

    def say_in_group(self, text: str, *, to_bot: bool) -> HookRequest:
        name = f"<@{self.slack.bot_user}> " if to_bot else ""
        event = self.slack.make_event(name + text, channel="C77", type="message")
        return self.slack.make_request(event)

    def show(self, picture: bytes) -> HookRequest:
        file = self.slack.add_file(picture, "a.png", "image/png")
        event = self.slack.make_event("", channel="D42", subtype="file_share", files=[file])
        return self.slack.make_request(event)

    def forge(self, text: str) -> HookRequest:
        return self.slack.make_request(self.slack.make_event(text), secret="guess")

    def read_text(self, message: dict[str, Any]) -> str:
        return str(message["text"])

    def read_file(self, message: dict[str, Any]) -> bytes:
        return bytes(message["files"][0]["data"])


class Webhook(Messenger):
    type = "webhook"

    def __init__(self) -> None:
        self.fake = self.receiver = FakeWebhookReceiver()

    def settings(self) -> dict[str, Any]:
        return {"url": self.receiver.url + "/in", "secret": self.receiver.secret}

    def say(self, text: str) -> HookRequest:
        return self.receiver.make_request(text)

    def say_in_group(self, text: str, *, to_bot: bool) -> HookRequest:
        return self.receiver.make_request(
            text, session_id="77", message_type="GroupMessage", addressed=to_bot
        )

    def show(self, picture: bytes) -> HookRequest:
        data = base64.b64encode(picture).decode()
        return self.receiver.make_request([{"type": "image", "filename": "a.png", "data": data}])

    def forge(self, text: str) -> HookRequest:
        return self.receiver.make_request(text, secret="a guess of 16 letters")

    def read_text(self, message: dict[str, Any]) -> str:
        return str(next(x["text"] for x in message["message"] if x["type"] == "plain"))

    def read_file(self, message: dict[str, Any]) -> bytes:
        return bytes(next(x["bytes"] for x in message["message"] if x["type"] == "image"))


MESSENGERS = (Telegram, OneBot, Slack, Webhook)
