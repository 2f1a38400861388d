"""The ``[upstream]`` table of a config: an AstrBot that answers its turns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import marshmallow as ma
from marshmallow.validate import Length, OneOf, Range

from .tables import (
    REQUIRED,
    BaseUrl,
    TableSchema,
    check_proxy,
    check_variable,
    key,
    make_schema,
    resolve_key,
)

#: Paths of AstrBot's API, which users may paste with its base URL.
API_PATHS = ("/api/v1", "/api")

#: Separates a config's id from the id of a config of its AstrBot.
CONFIG_SEPARATOR = ":"


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One ``[upstream]`` table.

    ``username`` is the username at AstrBot; ``{username}`` in it is replaced by the caller's name.
    ``owner_username`` and ``owner_password`` are the login of AstrBot's owner. With it, or with
    a key with the scope ``data``, interrupted answers can be looked up. ``resumable`` is whether
    AstrBot is asked again after the worker that asked it has died. ``proxy`` is as in
    ``[provider]``.
    """

    base_url: str = key(REQUIRED, field=BaseUrl(*API_PATHS))
    type: str = key("astrbot", OneOf(["astrbot"]))
    api_key: str = key("", secret=True)
    api_key_env: str = key("", check_variable)
    config_id: str = ""
    config_name: str = ""
    username: str = key("{username}", Length(1, 200))
    owner_username: str = ""
    owner_password: str = key("", secret=True)
    owner_password_env: str = ""
    timeout_s: float = key(300.0, Range(1, 3600))
    connect_timeout_s: float = key(10.0, Range(0.1, 300))
    max_concurrent: int = key(4, Range(1, 100))
    max_waiting: int = key(200, Range(0, 10_000))
    proxy: str | None = key(None, check_proxy, secret=True)
    resumable: bool = False

    def resolve_api_key(self) -> str:
        """Return AstrBot's API key from the file, or from the variable in ``api_key_env``."""
        return resolve_key(self.api_key, self.api_key_env)

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


class _NeedsKey(TableSchema):
    @ma.validates_schema
    def _check_key(self, data: dict[str, Any], **_: Any) -> None:
        if not data.get("api_key") and not data.get("api_key_env"):
            raise ma.ValidationError("required: a key of that AstrBot, or api_key_env", "api_key")


UpstreamSchema = make_schema(UpstreamConfig, base=_NeedsKey)
