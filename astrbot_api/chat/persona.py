"""The system prompt, with what it may say of the turn filled in."""

from __future__ import annotations

import re
from datetime import datetime

#: What a prompt may hold in braces; anything else in braces stays as it is.
PLACEHOLDERS = ("username", "time", "platform")

_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")


def fill_prompt(prompt: str, *, username: str, platform: str) -> str:
    """Return the prompt with ``{username}``, ``{time}`` and ``{platform}`` filled in.

    ``{time}`` is the server's local time to the minute, with its offset.
    """
    values = {
        # A caller chooses the username: it must not add lines to the prompt.
        "username": " ".join("".join(c if c.isprintable() else " " for c in username).split()),
        "time": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z (%A)}",
        "platform": platform,
    }
    return _PLACEHOLDER.sub(lambda found: values[found[1]], prompt)
