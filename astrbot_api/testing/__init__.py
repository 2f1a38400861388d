"""What tests of this package, and of what is built on it, need.

- :class:`~astrbot_api.testing.fake_openai.FakeOpenAI`: an OpenAI-compatible
  endpoint whose answers are scripted by the words of the user's message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake_openai import FakeOpenAI

__all__ = ["FakeOpenAI"]


def __getattr__(name: str) -> Any:
    # Not imported at once: "python -m astrbot_api.testing.fake_openai" would
    # find itself loaded already, and say so.
    if name == "FakeOpenAI":
        from .fake_openai import FakeOpenAI

        return FakeOpenAI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
