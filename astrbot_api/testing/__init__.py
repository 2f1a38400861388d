"""Utilities for tests of this package, of plugins and of clients.

- :func:`~astrbot_api.testing.application.make_app`: an application in a temporary
  data directory, with a key and a scripted model.
- :class:`~astrbot_api.testing.scripted_model.ScriptedModel`: a provider that answers
  from scripts and records its calls.
- :class:`~astrbot_api.testing.fake_openai.FakeOpenAI`: an OpenAI-compatible
  endpoint whose answers are scripted by keywords in the user's message.
- :class:`~astrbot_api.testing.fake_astrbot.FakeAstrBot`: an AstrBot that behaves as
  recorded from versions 4.25 and 4.29, including their faults.
- :class:`~astrbot_api.testing.fake_telegram.FakeTelegram`,
  :class:`~astrbot_api.testing.fake_onebot.FakeOneBot`,
  :class:`~astrbot_api.testing.fake_slack.FakeSlack` and
    :class:`~astrbot_api.testing.fake_webhook.FakeWebhookReceiver`: messengers that
    record received messages, create their webhook requests, and fail on demand.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application import ScriptedApp, make_app
    from .fake_astrbot import FakeAstrBot
    from .fake_onebot import FakeOneBot
    from .fake_openai import FakeOpenAI
    from .fake_slack import FakeSlack
    from .fake_telegram import FakeTelegram
    from .fake_webhook import FakeWebhookReceiver
    from .scripted_model import ScriptedModel

__all__ = [
    "FakeAstrBot", "FakeOneBot", "FakeOpenAI", "FakeSlack", "FakeTelegram",
    "FakeWebhookReceiver", "ScriptedApp", "ScriptedModel", "make_app",
]  # fmt: skip

_HOMES = {
    "FakeAstrBot": "fake_astrbot",
    "FakeOneBot": "fake_onebot",
    "FakeOpenAI": "fake_openai",
    "FakeSlack": "fake_slack",
    "FakeTelegram": "fake_telegram",
    "FakeWebhookReceiver": "fake_webhook",
    "ScriptedApp": "application",
    "ScriptedModel": "scripted_model",
    "make_app": "application",
}


def __getattr__(name: str) -> Any:
    # Imported on first use. Otherwise "python -m astrbot_api.testing.fake_openai"
    # would warn that the module is already loaded.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
