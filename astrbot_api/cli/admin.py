"""``astrbot-api admin``."""

from __future__ import annotations

import sys

import click

from ..config.settings import Settings
from ..owner.login import change_password
from ..owner.passwords import make_password
from .options import open_database, settings_option


@click.group("admin")
def admin_group() -> None:
    """Manage the owner's login."""


@admin_group.command("set-password")
@click.option("--name", help="The owner's name. Default: ASTRBOT_OWNER_NAME, else astrbot.")
@click.option("--random", "make", is_flag=True, help="Generate a password and print it.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input.")
@settings_option
def set_password(name: str | None, make: bool, from_stdin: bool, settings: Settings) -> None:
    """Set the owner's password. All logins end, and failed logins are reset.

    Prompts for the password unless --random or --stdin is given. Creates the
    owner if there is none.
    """
    if make:
        password = make_password()
    elif from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    name = name or settings.owner_name
    with open_database(settings) as store:
        change_password(store, name, password, actor="cli")
    click.echo(password if make else f"The password of {name} is set.")
