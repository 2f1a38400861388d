"""What tests of this package, and of what is built on it, need.

- :class:`~astrbot_api.testing.fake_openai.FakeOpenAI`: an OpenAI-compatible
  endpoint whose answers are scripted by the words of the user's message.
- :class:`~astrbot_api.testing.fake_telegram.FakeTelegram`,
  :class:`~astrbot_api.testing.fake_onebot.FakeOneBot`,
  :class:`~astrbot_api.testing.fake_slack.FakeSlack` and
  :class:`~astrbot_api.testing.fake_webhook.FakeWebhookReceiver`: messengers that
  remember what they were sent, make the requests that they would send, and fail
  on demand.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake_onebot import FakeOneBot
    from .fake_openai import FakeOpenAI
    from .fake_slack import FakeSlack
    from .fake_telegram import FakeTelegram
    from .fake_webhook import FakeWebhookReceiver

__all__ = ["FakeOneBot", "FakeOpenAI", "FakeSlack", "FakeTelegram", "FakeWebhookReceiver"]

_MODULES = {
    "FakeOneBot": "fake_onebot",
    "FakeOpenAI": "fake_openai",
    "FakeSlack": "fake_slack",
    "FakeTelegram": "fake_telegram",
    "FakeWebhookReceiver": "fake_webhook",
}


def __getattr__(name: str) -> Any:
    # Not imported at once: "python -m astrbot_api.testing.fake_openai" would
    # find itself loaded already, and say so.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
