"""``/api/apikey/…``: key management, compatible with AstrBot's own clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import peewee
from flask import Response, request

from ..db import keys
from ..db.audit import write_key_change
from ..errors import ApiError, refuse
from ..http.envelope import ok
from ..http.json_body import read_json_object
from ..http.state import get_state
from ..keys.rules import read_rules
from ..runtime.clock import now_us
from .access import AdminBlueprint, get_address, get_owner

blp = AdminBlueprint("apikey", "/apikey")

#: The routes below ``/api/v1``, as in newer versions of AstrBot.
newer_blp = AdminBlueprint("api_keys", "/api-keys", by_header=True)

T = TypeVar("T")

_DEFAULT_NAME = "Untitled API Key"
_MAX_DAYS = 36_500
_MAX_GRACE_S = 30 * 24 * 3600


@blp.get("/list")
@newer_blp.get("")
def list_keys() -> Response:
    """List all keys, newest first, without secrets."""
    with get_state().db.read() as db:
        return ok(keys.list_keys(db))


@blp.post("/create")
@newer_blp.post("")
def create_key() -> Response:
    """Create a key. ``api_key`` in the response is shown only once."""
    body = read_json_object(request)
    name = _read_name(body) if "name" in body else _DEFAULT_NAME
    scopes = _read_scopes(body.get("scopes"))
    days = _read_days(body.get("expires_in_days"))
    rules = _read_rules(body)
    owner = get_owner()
    made = write_key(
        "key_created",
        lambda db: keys.create_key(
            db, name, scopes, created_by=owner, expires_in_days=days, rules=rules
        ),
        ", ".join(scopes),
    )
    return _with_secret(*made)


@blp.post("/update")
def update_key() -> Response:
    """Change a key's name, scopes, expiry or rules. Omitted fields are kept.

    ``expires_in_days`` counts from now; ``null`` means that the key never expires.
    ``rules`` replaces all existing rules; ``null`` removes them.
    """
    body = read_json_object(request)
    key_id = read_key_id(body)
    changes: dict[str, Any] = {}
    if "name" in body:
        changes["name"] = _read_name(body)
    if "scopes" in body:
        changes["scopes"] = _read_scopes(body["scopes"])
    if "expires_in_days" in body:
        days = _read_days(body["expires_in_days"])
        changes["expires_at"] = None if days is None else now_us() + days * keys.DAY_US
    if "rules" in body:
        changes["rules"] = read_rules(body["rules"]).dump()
    if not changes:
        raise refuse("nothing to change: send name, scopes, expires_in_days or rules")

    def job(db: peewee.Database) -> dict[str, Any] | None:
        return keys.get_key(db, key_id) if keys.update_key(db, key_id, changes) else None

    return ok(write_key("key_changed", job, ", ".join(changes)))


@blp.post("/rotate")
def rotate_key() -> Response:
    """Give a key a new secret. The old one stays valid for ``grace_s`` seconds."""
    body = read_json_object(request)
    key_id = read_key_id(body)
    grace_s = body.get("grace_s", 0)
    if isinstance(grace_s, bool) or not isinstance(grace_s, int):
        raise refuse("grace_s must be an integer")
    if not 0 <= grace_s <= _MAX_GRACE_S:
        raise refuse(f"grace_s must be between 0 and {_MAX_GRACE_S}")
    rotated = write_key(
        "key_rotated",
        lambda db: keys.rotate_key(db, key_id, grace_s=grace_s),
        f"grace of the old secret {grace_s} s",
    )
    return _with_secret(*rotated)


@blp.post("/revoke")
@newer_blp.post("/<key_id>/revoke")
def revoke_key(key_id: str = "") -> Response:
    """Revoke a key. All workers reject its next request."""
    key_id = key_id or read_key_id(read_json_object(request))
    write_key("key_revoked", lambda db: keys.revoke_key(db, key_id))
    return ok({})


@blp.post("/delete")
@newer_blp.delete("/<key_id>")
def delete_key(key_id: str = "") -> Response:
    """Delete a key. Its data is kept."""
    key_id = key_id or read_key_id(read_json_object(request))
    write_key("key_deleted", lambda db: keys.delete_key(db, key_id))
    return ok({})


def write_key(action: str, job: Callable[[peewee.Database], T | None], detail: str = "") -> T:
    """Change a key and add the change to the audit log, in one transaction.

    :param job: As in :func:`write_key_change`.
    :raises ApiError: ``key_not_found``.
    """
    made = write_key_change(
        get_state().db, action, job, actor=get_owner(), address=get_address(), detail=detail
    )
    if made is None:
        raise ApiError("key_not_found", "API key not found")
    return made


def _read_name(body: dict[str, Any]) -> str:
    """Return the name. Like the recorded server, convert any value to text."""
    name = str(body["name"]).strip().encode("utf-8", "replace").decode()
    if len(name) > keys.MAX_NAME_CHARS:
        raise refuse(f"name must have at most {keys.MAX_NAME_CHARS} characters")
    return name or _DEFAULT_NAME


def _read_rules(body: dict[str, Any]) -> str | None:
    """Return the rules of a new key in their stored form.

    ``legacy_errors`` and ``default_username`` may also be sent next to the name.
    """
    given = body.get("rules")
    beside = {name: body[name] for name in ("legacy_errors", "default_username") if name in body}
    if beside and (given is None or isinstance(given, dict)):
        given = {**beside, **(given or {})}
    return read_rules(given).dump()


def _read_scopes(value: Any) -> list[str]:
    """Return the requested scopes.

    :raises ApiError: if the value is not a list, is empty, or contains an unknown scope.
    """
    if value is None:
        return list(keys.PUBLIC_SCOPES)
    if not isinstance(value, list):
        raise refuse("Invalid scopes")
    asked = list(dict.fromkeys(str(one) for one in value))
    unknown = [one for one in asked if one not in keys.ALL_SCOPES]
    if unknown:
        shown = ", ".join(unknown)[:200].encode("utf-8", "replace").decode()
        raise refuse(f"Invalid scopes: {shown}")
    if not asked:
        raise refuse("At least one valid scope is required")
    if "chat:admin" in asked and "chat" not in asked:
        raise refuse("chat:admin requires the chat scope")
    return asked


def _read_days(value: Any) -> int | None:
    """Return the number of days until a key expires, or None if it never expires.

    :raises ApiError: if it is not a positive integer, or is too large.
    """
    if value is None:
        return None
    try:
        days = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise refuse("expires_in_days must be an integer") from error
    if days <= 0:
        raise refuse("expires_in_days must be greater than 0")
    if days > _MAX_DAYS:
        raise refuse(f"expires_in_days must be at most {_MAX_DAYS}")
    return days


def read_key_id(body: dict[str, Any]) -> str:
    """Return the id of a key in a body.

    :raises ApiError: ``missing_field`` or ``invalid_request``.
    """
    key_id = body.get("key_id")
    if not key_id:
        raise ApiError("missing_field", "Missing key: key_id")
    if not isinstance(key_id, str):
        raise refuse("key_id must be a string")
    return key_id.encode("utf-8", "replace").decode()


def _with_secret(row: dict[str, Any], secret: str) -> Response:
    return ok({**row, "api_key": secret})
