"""The command line: ``astrbot-api serve | keys | db | doctor | import-astrbot | …``."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import click

from ..config.loading import list_misspelt
from ..config.settings import Settings
from ..db import failures
from ..db.store import open_store
from ..errors import AstrBotError
from .admin import admin_group
from .chat import chat_command
from .importing import import_command
from .keys import keys_group
from .options import (
    SETTINGS,
    as_json_option,
    data_dir_option,
    open_database,
    settings_option,
)
from .plugins import iter_plugin_findings, plugins_group


class Group(click.Group):
    """Prints one line and exits with status 2 after an error of this package or of a file."""

    def invoke(self, ctx: click.Context) -> Any:
        # Each line is printed below, or is a finding of doctor.
        for name in (failures.__name__, "astrbot_api.mcp.sidecar", "mcp"):
            logging.getLogger(name).addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except AstrBotError as error:
            click.echo(f"astrbot-api: {error.operator_text or error}", err=True)
        except OSError as error:
            if error.filename is None:
                if not isinstance(error, FileNotFoundError):
                    raise
                # Only tempfile and os.getcwd() name no file. The latter's folder was removed, or
                # replaced by a new one.
                is_temporary = "temporary" in (error.strerror or "")
                error.filename = "TMPDIR" if is_temporary else "the current folder"
            text = f"astrbot-api: {error.filename}: {error.strerror}"
            if isinstance(error, PermissionError):
                text += "; run this as the user who owns the data, or correct the owner (chown)"
            click.echo(text, err=True)
        sys.exit(2)


@click.group(cls=Group)
@click.version_option(package_name="astrbot-api")
def main() -> None:
    """Serve the AstrBot HTTP API, and manage its keys and data."""


main.add_command(keys_group)
main.add_command(plugins_group)
main.add_command(admin_group)
main.add_command(import_command)
main.add_command(chat_command)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=6185, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Worker processes (WEB_CONCURRENCY, else 2)."
)
@click.option(
    "--upstream", metavar="URL", help="First start: an AstrBot answers, e.g. http://127.0.0.1:6185."
)
@click.option("--upstream-key", metavar="KEY", help="Its API key (ASTRBOT_UPSTREAM_KEY).")
@data_dir_option
def serve(
    host: str,
    port: int,
    workers: int | None,
    upstream: str | None,
    upstream_key: str | None,
    data_dir: Path | None,
) -> None:
    """Start the server: gunicorn, and the embedded model if no other is configured."""
    from ..server.serve import run_server

    secret = upstream_key or os.environ.get("ASTRBOT_UPSTREAM_KEY", "")
    if upstream and not secret:
        raise click.UsageError("--upstream needs --upstream-key, or ASTRBOT_UPSTREAM_KEY")
    sys.exit(
        run_server(
            host=host,
            port=port,
            workers=workers,
            data_dir=data_dir,
            upstream=(upstream, secret) if upstream else None,
        )
    )


@main.group("db")
def db_group() -> None:
    """Manage the database."""


@db_group.command("upgrade")
@settings_option
def upgrade_db(settings: Settings) -> None:
    """Apply all migrations."""
    names = open_store(settings).upgrade()
    click.echo("\n".join(names) if names else "The database is up to date.")


@db_group.command("status")
@settings_option
def show_db(settings: Settings) -> None:
    """List the migrations and their status."""
    for name, state in open_store(settings).list_migrations():
        click.echo(f"{state:6} {name}")


@db_group.command("sweep")
@click.option(
    "--older-than-days",
    type=click.IntRange(0, 36500),
    help="Age of the attachments; default: ASTRBOT_UNUSED_FILE_DAYS (30).",
)
@click.option("--delete", is_flag=True, help="Delete them. Without it, only list them.")
@settings_option
def sweep_db(older_than_days: int | None, delete: bool, settings: Settings) -> None:
    """Delete attachments that no message uses, and leftovers of crashes.

    Without --delete, it only lists them.
    """
    from ..files.attachments import Attachments
    from ..files.sweep import sweep

    days = settings.unused_file_days if older_than_days is None else older_than_days
    size_bytes = count = 0
    with open_database(settings) as store:
        attachments = Attachments(settings, store)
        for swept in sweep(attachments, store, older_than_days=days, delete=delete):
            count += 1
            size_bytes += swept.size_bytes or 0
            size = "" if swept.size_bytes is None else f" ({swept.size_bytes} bytes)"
            click.echo(f"{swept.what:10} {swept.name}{size}")
    done = "Removed" if delete else "Would remove"
    hint = "" if delete or not count else "; add --delete to remove them"
    click.echo(f"{done} {count} items, {size_bytes} bytes{hint}.", err=True)


@main.command()
@settings_option
def check(settings: Settings) -> None:
    """Check the configuration files, before a restart or a reload (HUP).

    The exit status is 2 if a file or a setting is invalid. No worker starts then.
    """
    from ..server.preparing import check_files, check_whole_numbers

    for name, remedy in list_misspelt(os.environ):
        click.echo(f"{name} is no setting and has no effect; {remedy}", err=True)
    check_whole_numbers(os.environ)
    check_files(settings)
    click.echo("The configuration files are valid.")


@main.command()
@click.option("--offline", is_flag=True, help="Contact no model, MCP server, Redis or messenger.")
@as_json_option
@settings_option
def doctor(offline: bool, as_json: bool, settings: Settings) -> None:
    """Check data, configs, models, plugins, bots and webhooks, and suggest remedies.

    Nothing is changed. Each provider, MCP server, bot and Redis is contacted once. Skipped
    checks are listed with the reason. The exit status is 1 after a warning or a failure.
    """
    from ..server.doctor.run import examine

    findings = []
    plugins = iter_plugin_findings(settings.data_dir)
    command = "flask astrbot" if SETTINGS in click.get_current_context().meta else "astrbot-api"
    for found in chain(examine(settings, offline=offline), plugins):
        one = replace(found, remedy=found.remedy.replace("astrbot-api", command))
        findings.append(one)
        if not as_json:
            remedy = f"\n      -> {one.remedy}" if one.remedy else ""
            click.echo(f"{one.state:5} {one.what}: {one.text}{remedy}")
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings], indent=2))
    sys.exit(any(one.state in ("fail", "warn") for one in findings))
