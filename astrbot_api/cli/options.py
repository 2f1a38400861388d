"""Options shared by several commands, and access to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..config.loading import load_settings
from ..config.settings import Settings
from ..db.store import Store, open_store

_HELP = "Data directory (default: ASTRBOT_DATA_DIR, else ./data)."
#: Key of an embedding application's settings in a command's context.
SETTINGS = "astrbot_api.settings"

_FOLDER = click.Path(file_okay=False, path_type=Path)


def _load(context: click.Context, option: click.Parameter, data_dir: Path | None) -> Settings:
    if data_dir is None and SETTINGS in context.meta:
        found: Settings = context.meta[SETTINGS]
        return found
    return load_settings({} if data_dir is None else {"data_dir": data_dir})


#: ``--data-dir`` as a path.
data_dir_option = click.option("--data-dir", type=_FOLDER, help=_HELP)

#: ``--data-dir`` as the loaded settings.
settings_option = click.option("--data-dir", "settings", type=_FOLDER, help=_HELP, callback=_load)

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def open_database(settings: Settings) -> Iterator[Store]:
    """Open the database and apply migrations. Close it on exit.

    If it is new, say so: in another folder than the server's, a new key would be unknown to it.
    """
    is_new = not settings.uses_postgres and not settings.database_path.exists()
    store = open_store(settings)
    try:
        store.upgrade()
        if is_new:
            path = settings.database_path.resolve()
            click.echo(f"New database: {path}. For another server, use --data-dir.", err=True)
        yield store
    finally:
        store.close()
