"""``astrbot-api keys create | list | revoke | delete | rotate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

from ..config.settings import Settings
from ..db import keys
from ..db.audit import write_key_change
from ..keys.rules import KeyRules, read_rules
from .options import as_json_option, open_database, settings_option

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


def _rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each key rule to a command."""
    for rule in reversed(fields(KeyRules)):
        if help_text := rule.metadata.get("help"):
            name = "--" + _NAMES.get(rule.name, rule.name).replace("_", "-")
            options = _OPTIONS[str(rule.type)]
            help_text += " Repeatable." if options.get("multiple") else ""
            command = click.option(name, rule.name, help=help_text, **options)(command)
    return command


def _read_rule_options(given: Mapping[str, Any]) -> str | None:
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


@click.group("keys")
def keys_group() -> None:
    """Create, list, revoke, rotate and delete API keys."""


def _check_name(context: click.Context, parameter: click.Parameter, name: str) -> str:
    name = name.strip()
    if not name.isprintable() or not 0 < len(name) <= keys.MAX_NAME_CHARS:
        limit = keys.MAX_NAME_CHARS
        raise click.BadParameter(f"write a name of at most {limit} printable characters")
    return name


@keys_group.command("create")
@click.argument("name", callback=_check_name)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(keys.ALL_SCOPES),
    help="Scope of the key. Repeatable. Default: the four public scopes.",
)
@click.option("--expires-in-days", type=click.IntRange(1, 36500), help="Default: never.")
@_rule_options
@as_json_option
@settings_option
def create_key(
    name: str,
    scopes: tuple[str, ...],
    expires_in_days: int | None,
    as_json: bool,
    settings: Settings,
    **rules: Any,
) -> None:
    """Create a key. Its secret is shown once and never stored."""
    guard = _read_rule_options(rules)
    wanted = scopes or keys.PUBLIC_SCOPES
    if keys.ADMIN_SCOPE in wanted and "chat" not in wanted:
        raise click.UsageError("chat:admin requires the chat scope: add --scope chat")
    key, secret = _write(
        settings,
        "key_created",
        lambda db: keys.create_key(
            db, name, wanted, created_by="cli", expires_in_days=expires_in_days, rules=guard
        ),
    )
    _show_secret(key, secret, as_json)


@keys_group.command("list")
@as_json_option
@settings_option
def list_keys(as_json: bool, settings: Settings) -> None:
    """List the keys, newest first, without their secrets."""
    with open_database(settings) as store, store.read() as db:
        found = keys.list_keys(db)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for key in found:
        state = "revoked" if key["is_revoked"] else "expired" if key["is_expired"] else "valid"
        used = key["last_used_at"] or "never used"
        scopes = ",".join(key["scopes"])
        click.echo(
            f"{key['key_id']}  {key['key_prefix']}…  {state:8} {scopes:26} {used}  {key['name']}"
        )


@keys_group.command("revoke")
@click.argument("key_id")
@as_json_option
@settings_option
def revoke_key(key_id: str, as_json: bool, settings: Settings) -> None:
    """Revoke a key. All workers reject its next request."""
    _change(key_id, "revoked", as_json, settings, lambda db: keys.revoke_key(db, key_id))


@keys_group.command("delete")
@click.argument("key_id")
@as_json_option
@settings_option
def delete_key(key_id: str, as_json: bool, settings: Settings) -> None:
    """Delete a key, also from the list."""
    _change(key_id, "deleted", as_json, settings, lambda db: keys.delete_key(db, key_id))


@keys_group.command("rotate")
@click.argument("key_id")
@click.option(
    "--grace-s", default=0, show_default=True, type=click.IntRange(0),
    help="Time that the old secret stays valid, in seconds.",
)  # fmt: skip
@as_json_option
@settings_option
def rotate_key(key_id: str, grace_s: int, as_json: bool, settings: Settings) -> None:
    """Give a key a new secret. Its id, limits, files and usage are kept."""
    rotated = _write(
        settings,
        "key_rotated",
        lambda db: keys.rotate_key(db, key_id, grace_s=grace_s),
        f"grace of the old secret {grace_s} s",
    )
    if rotated is None:
        raise click.ClickException(f"there is no valid key with the id {key_id}")
    key, secret = rotated
    _show_secret(key, secret, as_json)


def _write(settings: Settings, action: str, job: Callable[[Any], Any], detail: str = "") -> Any:
    with open_database(settings) as store:
        return write_key_change(store, action, job, actor="cli", detail=detail)


def _change(
    key_id: str,
    done: str,
    as_json: bool,
    settings: Settings,
    job: Callable[[Any], dict[str, Any] | None],
) -> None:
    if not _write(settings, f"key_{done}", job):
        raise click.ClickException(f"there is no key with the id {key_id}")
    click.echo(json.dumps({"key_id": key_id, done: True}) if as_json else f"{done}: {key_id}")


def _show_secret(key: dict[str, Any], secret: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**key, "api_key": secret}))
        return
    click.echo(secret)
    click.echo(
        f"id {key['key_id']}, scopes {', '.join(key['scopes'])}. Save the key now:", err=True
    )
    click.echo("it is not shown again.", err=True)
