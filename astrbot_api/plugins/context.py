"""What a plugin gets: at its start, and for a turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..agent.cancel import Cancellation
from ..db.store import Store
from ..errors import AstrBotError


class PluginError(AstrBotError):
    """A plugin cannot be loaded; one line says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """The application that a plugin is part of.

    :param plugin: The name that the plugin has here.
    :param data_dir: The server's data directory.
    :param store: The database. The built-in plugins use it; its tables may
        change in any version, so keep what is yours in :meth:`make_folder`.
    """

    plugin: str
    data_dir: Path
    store: Store

    def make_folder(self) -> Path:
        """Return a folder for the plugin's own files, made when it is missing.

        Several worker processes share it.
        """
        folder = self.data_dir / "plugin-data" / self.plugin
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What a hook may know of the turn that it is called for.

    :param platform: Where the user is: ``webchat``, or the type of the bot.
    :param cancel: Fires when the turn is stopped, and when the hook's time
        is up: what waits for long should look at it.
    :param settings: What the turn's config sets for this plugin, checked.
    """

    run_id: str
    username: str
    session_id: str
    config_id: str
    platform: str
    cancel: Cancellation
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handled:
    """A hook has answered the message itself: the model is not asked.

    :param text: What the user is shown.
    """

    text: str
