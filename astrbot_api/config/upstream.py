"""The ``[upstream]`` table of a config: an AstrBot that answers its turns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import marshmallow as ma

#: Separates a config's id from the id of a config of its AstrBot.
CONFIG_SEPARATOR = ":"


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One ``[upstream]`` table.

    ``username`` is the username at AstrBot; ``{username}`` in it is replaced by the caller's name.
    ``owner_username`` and ``owner_password`` are the login of AstrBot's owner. With it,
    interrupted answers can be looked up in any session (AstrBot 4.26 and newer). ``resumable``
    is whether AstrBot is asked again after the worker that asked it has died.
    """

    base_url: str
    type: str = "astrbot"
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    config_id: str = ""
    config_name: str = ""
    username: str = "{username}"
    owner_username: str = ""
    owner_password: str = field(default="", repr=False)
    owner_password_env: str = ""
    timeout_s: float = 300.0
    connect_timeout_s: float = 10.0
    max_concurrent: int = 4
    max_waiting: int = 200
    proxy: str = ""
    resumable: bool = False

    def resolve_api_key(self) -> str:
        """Return AstrBot's API key from the file, or from the variable in ``api_key_env``."""
        return self.api_key or os.environ.get(self.api_key_env, "")

    def resolve_owner_password(self) -> str:
        """Return the owner's password from the file, or from the configured variable."""
        return self.owner_password or os.environ.get(self.owner_password_env, "")

    def name_user(self, username: str) -> str:
        """Return a caller's username at AstrBot."""
        return self.username.replace("{username}", username)

    @property
    def place(self) -> str:
        """Identifier of this AstrBot for file names: its hashed base URL."""
        return sha256(self.base_url.encode()).hexdigest()[:16]


class UpstreamSchema(ma.Schema):
    """Validates the table."""

    class Meta:
        unknown = ma.RAISE

    type = ma.fields.String(validate=ma.validate.OneOf(["astrbot"]))
    base_url = ma.fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    api_key = ma.fields.String()
    api_key_env = ma.fields.String()
    config_id = ma.fields.String()
    config_name = ma.fields.String()
    username = ma.fields.String(validate=ma.validate.Length(1, 200))
    owner_username = ma.fields.String()
    owner_password = ma.fields.String()
    owner_password_env = ma.fields.String()
    timeout_s = ma.fields.Float(validate=ma.validate.Range(1, 3600))
    connect_timeout_s = ma.fields.Float(validate=ma.validate.Range(0.1, 300))
    max_concurrent = ma.fields.Integer(validate=ma.validate.Range(1, 100))
    max_waiting = ma.fields.Integer(validate=ma.validate.Range(0, 10_000))
    proxy = ma.fields.String()
    resumable = ma.fields.Boolean()

    @ma.validates_schema
    def _check_key(self, data: dict[str, Any], **_: Any) -> None:
        if not data.get("api_key") and not data.get("api_key_env"):
            raise ma.ValidationError("required: a key of that AstrBot, or api_key_env", "api_key")


def make_upstream(table: Mapping[str, Any] | None) -> UpstreamConfig | None:
    """Return the table's values, or None if the config has no such table."""
    if table is None:
        return None
    return UpstreamConfig(**{**table, "base_url": normalize_base_url(table["base_url"])})


def normalize_base_url(text: str) -> str:
    """Return an AstrBot's base URL. The path of its API is removed."""
    base_url = text.rstrip("/")
    for tail in ("/api/v1", "/api"):
        base_url = base_url.removesuffix(tail)
    return base_url
