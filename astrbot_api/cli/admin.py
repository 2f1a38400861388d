"""``astrbot-api admin`` and the options for key rules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

from ..config.settings import Settings
from ..keys.rules import KeyRules, read_rules
from ..owner.login import change_password
from ..owner.passwords import make_password
from .options import open_database, settings_option

#: Rule -> name of its option, which is given once for each entry of a list.
_NAMES = {
    "configs": "config", "bots": "bot", "umos": "umo", "tools": "tool", "addresses": "address",
}  # fmt: skip

#: Type of a rule -> arguments of its option.
_OPTIONS: dict[str, dict[str, Any]] = {
    "str | None": {"type": str},
    "int | None": {"type": click.IntRange(1)},
    "bool | None": {"is_flag": True},
    "tuple[str, ...] | None": {"type": str, "multiple": True},
}


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each key rule to a command."""
    for rule in reversed(fields(KeyRules)):
        if help_text := rule.metadata.get("help"):
            name = "--" + _NAMES.get(rule.name, rule.name).replace("_", "-")
            options = _OPTIONS[str(rule.type)]
            help_text += " Repeatable." if options.get("multiple") else ""
            command = click.option(name, rule.name, help=help_text, **options)(command)
    return command


def read_rule_options(given: Mapping[str, Any]) -> str | None:
    """Return the rules of the options in their stored form.

    An empty text, for example of an unset variable in a script, must not create a key without
    the rule.

    :raises ApiError: ``invalid_request``; its message names the rule.
    """
    values = {
        rule: list(value) if isinstance(value, tuple) else value
        for rule, value in given.items()
        if value not in (None, (), False)
    }
    return read_rules(values).dump()


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
