"""``astrbot-api import-astrbot DIR``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from ..config.settings import Settings
from ..importing import KINDS
from .options import as_json_option, open_database, settings_option

#: A key of the other server, to detect how its hashes were made. It is read from the
#: environment, because every user of the machine can see command lines.
_KNOWN_KEY_VARIABLE = "ASTRBOT_KNOWN_KEY"


@click.command("import-astrbot")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--apply", is_flag=True, help="Import the data. Without it, only report.")
@click.option(
    "--only", "kinds", multiple=True, type=click.Choice(KINDS), help="Import only this data."
)
@click.option(
    "--key-salt",
    help="Salt of the key hashes if the database has none: text, hex:… or base64:….",
)
@as_json_option
@settings_option
def import_command(
    directory: Path,
    apply: bool,
    kinds: tuple[str, ...],
    key_salt: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Import keys, sessions, history, attachments and configs of an AstrBot.

    DIRECTORY is its data directory, with data_v4.db. It is only read, and may
    be in use. Without --apply nothing is imported. A repeated import resumes an
    interrupted one and imports nothing twice.

    Set ASTRBOT_KNOWN_KEY to one of its keys, and the import first detects how
    that server hashed its keys.
    """
    # Imported here: it takes 0.25 s, which would slow down all other commands.
    from ..importing.hashes import read_given_salt
    from ..importing.run import import_astrbot

    try:
        given_salt = None if key_salt is None else read_given_salt(key_salt)
    except ValueError as error:
        raise click.UsageError("--key-salt is not valid hexadecimal or base64") from error
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with open_database(settings) as store:
        report = import_astrbot(
            directory,
            settings,
            store,
            apply=apply,
            kinds=kinds or KINDS,
            given_salt=given_salt,
            known_key=os.environ.get(_KNOWN_KEY_VARIABLE, "").strip(),
            report=lambda line: click.echo(line, err=True),
        )
    if as_json:
        click.echo(json.dumps(report.describe(), indent=2, ensure_ascii=False))
        return
    for line in report.iter_lines():
        click.echo(line)
    if not apply:
        click.echo("Nothing was changed. Add --apply to import.", err=True)
