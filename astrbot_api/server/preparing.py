"""Creates data for ``serve`` before any worker starts: folder, database, first key and owner.

It imports no HTTP code, which saves 0.9 s of CPU time and 15 MB.
"""

from __future__ import annotations

from pathlib import Path

from ..config.files import ConfigFiles
from ..config.settings import Settings, load_settings
from ..db import keys
from ..db.store import open_store
from ..deliveries.webhook_file import WebhookFile
from ..errors import SettingsError
from ..im.botfile import BotFile
from ..owner.login import create_first_owner
from ..wiring import Parts, build_state


def prepare(data_dir: Path | str | None = None) -> None:
    """Create the data directory, its default config and its database.

    :raises SettingsError: if a setting or configuration file is invalid.
    """
    # Only the workers load plugins, not the process that starts them.
    build_state(_load(data_dir), Parts(find_plugins=False)).close()


def check_files(settings: Settings) -> None:
    """Read the configuration files as a starting worker does.

    :raises SettingsError: if one is invalid or there is no data directory.
    """
    if not settings.data_dir.is_dir():
        raise SettingsError(f"ASTRBOT_DATA_DIR: there is no folder {settings.data_dir}")
    ConfigFiles(settings.data_dir).load_all()
    BotFile(settings.data_dir).load()
    WebhookFile(settings.data_dir).load()


def first_key(data_dir: Path | str | None = None) -> str | None:
    """Create the first key of a new server.

    :returns: The key's secret, or None if a key already exists.
    """
    store = open_store(_load(data_dir))
    try:
        made = store.write(lambda db: keys.create_first_key(db, "first key", created_by="serve"))
        return None if made is None else made[1]
    finally:
        store.close()


def first_owner(data_dir: Path | str | None = None) -> tuple[str, str] | None:
    """Create the owner of a new server.

    :returns: The owner's name and password, or None if an owner already exists or logins are
        disabled.
    """
    settings = _load(data_dir)
    if settings.owner_access == "off":
        return None
    store = open_store(settings)
    try:
        password = create_first_owner(settings, store)
    finally:
        store.close()
    return None if password is None else (settings.owner_name, password)


def _load(data_dir: Path | str | None) -> Settings:
    return load_settings({} if data_dir is None else {"data_dir": data_dir})
