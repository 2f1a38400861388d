"""``astrbot-api admin``: for an owner with the machine but without the password."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from ..config.settings import Settings
from ..keys.rules import read_rules
from ..owner.login import change_password
from ..owner.passwords import make_password
from .options import open_database, settings_option

#: Rule -> what its option says. A rule that is a list may be given several times.
_RULES = {
    "username": "The only username that it may speak as.",
    "default_username": "Whom it speaks as where a request names nobody.",
    "username_prefix": "What the usernames that it may speak as begin with.",
    "configs": "Id of a config that it may use.",
    "bots": "Id of a bot that it may send through.",
    "umos": "UMO that it may send to; * stands for anything.",
    "tools": "Tool that its turns may use; * stands for anything.",
    "approve": "Tool whose calls a person must approve; * stands for anything.",
    "addresses": "Network that its requests may come from, such as 10.0.0.0/8.",
    "requests_per_minute": "Most requests a minute.",
    "streams": "Most turns that run or wait at once.",
    "turns_per_day": "Most turns a day (UTC).",
    "tokens_per_day": "Most tokens a day (UTC).",
    "upload_bytes": "Most bytes of its files together.",
    "stored_bytes": "Most bytes of its messages, sessions and notes.",
    "sessions": "Most sessions.",
    "growth_bytes": "Most bytes by which its messages and sessions grow within a minute.",
    "tool_calls_per_turn": "Most tool calls of one turn.",
    "tool_seconds_per_turn": "Longest time that the tools of one turn take, in seconds.",
    "tool_chars_per_turn": "Most characters that the tools of one turn return.",
    "legacy_errors": "Errors have status 200, for a client that says HTTP 400.",
}

_LISTS = {
    "configs": "config", "bots": "bot", "umos": "umo", "tools": "tool", "addresses": "address",
}  # fmt: skip

_TEXTS = ("username", "username_prefix", "default_username")

_FLAGS = ("legacy_errors",)


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each guard rail to a command."""
    for rule, help_text in reversed(_RULES.items()):
        name = "--" + _LISTS.get(rule, rule).replace("_", "-")
        kind: Any = str if rule in (*_LISTS, *_TEXTS) else click.IntRange(1)
        if rule in _FLAGS:
            command = click.option(name, rule, is_flag=True, help=help_text)(command)
            continue
        add = click.option(name, rule, multiple=rule in _LISTS, type=kind, help=help_text)
        command = add(command)
    return command


def read_rule_options(given: Mapping[str, Any]) -> str | None:
    """Return the guard rails of the options as they are stored."""
    values = {
        rule: list(value) if isinstance(value, tuple) else value
        for rule, value in given.items()
        if value
    }
    return read_rules(values).dump()


@click.group("admin")
def admin_group() -> None:
    """Look after the owner's login."""


@admin_group.command("set-password")
@click.option("--name", help="Who; default: ASTRBOT_OWNER_NAME, else astrbot.")
@click.option("--random", "make", is_flag=True, help="Make a password and print it.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input.")
@settings_option
def set_password(name: str | None, make: bool, from_stdin: bool, settings: Settings) -> None:
    """Set the owner's password; all logins end, and failed ones are forgotten.

    Asks for it unless --random or --stdin is given. Makes the owner where
    there is none.
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
