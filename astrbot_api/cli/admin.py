"""``astrbot-api admin`` and the options for key rules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from ..config.settings import Settings
from ..keys.rules import RULE_TYPES, read_rules
from ..owner.login import change_password
from ..owner.passwords import make_password
from .options import open_database, settings_option

#: Rule -> help text of its option. List options may be repeated.
_RULES = {
    "username": "The only username that requests may use.",
    "default_username": "Username for requests without one.",
    "username_prefix": "Required prefix of usernames.",
    "configs": "Id of an allowed config. Repeatable.",
    "bots": "Id of an allowed bot. Repeatable.",
    "umos": "UMO that messages may be sent to; * matches anything. Repeatable.",
    "tools": "Tool that turns may use; * matches anything. Repeatable.",
    "approve": "Tool whose calls a person must approve; * matches anything. Repeatable.",
    "addresses": "Network that requests may come from, such as 10.0.0.0/8. Repeatable.",
    "requests_per_minute": "Maximum number of requests per minute.",
    "streams": "Maximum number of running and waiting turns.",
    "turns_per_day": "Maximum number of turns per day (UTC).",
    "tokens_per_day": "Maximum number of tokens per day (UTC).",
    "upload_bytes": "Maximum total size of the key's files, in bytes.",
    "stored_bytes": "Maximum size of the key's messages, sessions and notes, in bytes.",
    "sessions": "Maximum number of sessions.",
    "growth_bytes": "Maximum growth of the key's messages and sessions per minute, in bytes.",
    "tool_calls_per_turn": "Maximum number of tool calls per turn.",
    "tool_seconds_per_turn": "Maximum run time of the tools per turn, in seconds.",
    "tool_chars_per_turn": "Maximum length of the tools' results per turn, in characters.",
    "legacy_errors": "Return errors with status 200, for clients that report HTTP 400.",
}

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
    for rule, help_text in reversed(_RULES.items()):
        name = "--" + _NAMES.get(rule, rule).replace("_", "-")
        options = _OPTIONS[RULE_TYPES[rule]]
        command = click.option(name, rule, help=help_text, **options)(command)
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
