"""Options that several commands have, and the database that they open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..config.settings import Settings, load_settings
from ..db.store import Store, open_store

_HELP = "Folder of the server's data (ASTRBOT_DATA_DIR, else ./data)."
#: Where the settings of an embedding application stand in a command's context.
SETTINGS = "astrbot_api.settings"

_FOLDER = click.Path(file_okay=False, path_type=Path)


def _load(context: click.Context, option: click.Parameter, data_dir: Path | None) -> Settings:
    if data_dir is None and SETTINGS in context.meta:
        found: Settings = context.meta[SETTINGS]
        return found
    return load_settings({} if data_dir is None else {"data_dir": data_dir})


#: ``--data-dir``, given to the command as a path.
data_dir_option = click.option("--data-dir", type=_FOLDER, help=_HELP)

#: ``--data-dir``, given to the command as the settings that hold for it.
settings_option = click.option("--data-dir", "settings", type=_FOLDER, help=_HELP, callback=_load)

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def open_database(settings: Settings) -> Iterator[Store]:
    """Open the database, brought up to date; close it afterwards."""
    store = open_store(settings)
    try:
        store.upgrade()
        yield store
    finally:
        store.close()
