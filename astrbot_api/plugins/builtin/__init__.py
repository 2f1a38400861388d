"""The built-in plugins, which use the same hooks as all others.

They are always enabled. A config can deny their tools by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .attachments import Attachments
from .basics import Basics
from .commands import Commands
from .history import History
from .messages import Messages
from .notes import Notes
from .web import Web

#: In the order in which their tools are offered.
BUILT_IN_PLUGINS: tuple[Callable[[], Any], ...] = (
    Commands,
    Basics,
    Attachments,
    History,
    Notes,
    Web,
    Messages,
)
