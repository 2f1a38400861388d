"""``astrbot-api admin``: for whoever has the machine and not the password."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..config import load_settings
from ..db.store import open_store
from .owner import change_password
from .passwords import make_password


@click.group("admin")
def admin_group() -> None:
    """Look after the owner's login."""


@admin_group.command("set-password")
@click.option("--name", help="Who; default: ASTRBOT_OWNER_NAME, else astrbot.")
@click.option("--random", "make", is_flag=True, help="Make a password and print it.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the server's data (ASTRBOT_DATA_DIR, else ./data).",
)
def set_password(name: str | None, make: bool, from_stdin: bool, data_dir: Path | None) -> None:
    """Set the owner's password; all logins end, and failed ones are forgotten.

    Asks for it unless --random or --stdin is given. Makes the owner where
    there is none.
    """
    settings = load_settings({} if data_dir is None else {"data_dir": data_dir})
    if make:
        password = make_password()
    elif from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    store = open_store(settings)
    try:
        store.upgrade()
        change_password(store, name or settings.owner_name, password, actor="cli")
    finally:
        store.close()
    click.echo(password if make else f"The password of {name or settings.owner_name} is set.")
