"""What ``serve`` makes before any worker starts: data directory, database, first key and owner.

It serves nothing, so it imports nothing of HTTP: 0.9 s of CPU and 15 MB.
"""

from __future__ import annotations

from pathlib import Path

from ..config.settings import Settings, load_settings
from ..db import keys
from ..db.store import open_store
from ..owner.login import create_first_owner
from ..wiring import Parts, build_state


def prepare(data_dir: Path | str | None = None) -> None:
    """Make the data directory, its default config and its database.

    :raises SettingsError: for a wrong setting or configuration file.
    """
    # The plugins belong to the workers, not to the process that starts them.
    build_state(_load(data_dir), Parts(find_plugins=False)).close()


def first_key(data_dir: Path | str | None = None) -> str | None:
    """Make the first key of a new server.

    :returns: The key's secret; None when there was a key already.
    """
    store = open_store(_load(data_dir))
    try:
        made = store.write(lambda db: keys.create_first_key(db, "first key", created_by="serve"))
        return None if made is None else made[1]
    finally:
        store.close()


def first_owner(data_dir: Path | str | None = None) -> tuple[str, str] | None:
    """Make the owner of a new server.

    :returns: His name and password; None when there was an owner already, or
        when nobody is to log in.
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
