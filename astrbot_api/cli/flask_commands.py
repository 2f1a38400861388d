"""``flask astrbot …``: the commands for applications that embed the API.

Flask finds the group through the entry point ``flask.commands``.
"""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from ..http.state import EXTENSION
from .admin import admin_group
from .keys import keys_group
from .main import Group, db_group, doctor
from .options import SETTINGS


@click.group("astrbot", cls=Group)
@click.pass_context
@with_appcontext
def astrbot_group(context: click.Context) -> None:
    """Manage the keys and data of this application's AstrBot API."""
    state = current_app.extensions.get(EXTENSION)
    if state is None:
        raise click.UsageError("this application has no AstrBotAPI")
    context.meta[SETTINGS] = state.settings


for _command in (keys_group, db_group, doctor, admin_group):
    astrbot_group.add_command(_command)
