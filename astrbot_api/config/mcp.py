"""The ``[mcp.NAME]`` tables of a config: the MCP servers that its agent may use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import marshmallow as ma
import orjson
from marshmallow.validate import Length, OneOf, Range

from .tables import HttpUrl, KnownKeys, TableSchema, key, make_schema


class _OAuthSchema(KnownKeys):
    """Validates the sidecar's OAuth settings. A sign-in in a browser is not possible there."""

    issuer = HttpUrl(required=True)
    client_id = ma.fields.String(required=True, validate=ma.validate.Length(1))
    client_secret_env = ma.fields.String()
    private_key_file = ma.fields.String()
    token_file = ma.fields.String()
    scope = ma.fields.String()
    auth_method = ma.fields.String(
        validate=ma.validate.OneOf(["client_secret_basic", "client_secret_post"])
    )

    @ma.validates_schema
    def _check_ways(self, data: dict[str, Any], **options: Any) -> None:
        for name in ("private_key_file", "token_file"):
            if name in data and not os.path.isabs(data[name]):
                raise ma.ValidationError("Must be an absolute path.", name)
        if "private_key_file" in data and ("client_secret_env" in data or "token_file" in data):
            text = "Cannot be used with client_secret_env or token_file."
            raise ma.ValidationError(text, "private_key_file")
        if not data.keys() & {"client_secret_env", "private_key_file", "token_file"}:
            text = "Requires client_secret_env, private_key_file or token_file."
            raise ma.ValidationError(text, "client_id")


@dataclass(frozen=True, slots=True)
class McpServerConfig:
    """One MCP server: a command with MCP over standard input and output, or a URL.

    :param name: Prefix of its tools' names.
    :param command: Program and arguments, or empty for a URL.
    :param env: Variables for the program, besides ``PATH``, ``HOME`` and similar ones.
    :param inherit_env: Names of the server's own variables that the program also gets.
    :param cwd: Working directory of the program, or empty for the server's.
    :param url: URL of a server with streamable HTTP.
    :param transport: ``http``, ``sse`` (the older one), or ``auto``, which detects it.
    :param token_env: Variable with a token, sent as ``Authorization: Bearer``.
    :param oauth: Its validated ``[mcp.NAME.oauth]`` table, or empty.
    :param timeout_s: Timeout of a call, or None for ``agent.tool_timeout_s``.
    :param trust_hints: Whether the server's hints about its tools are trusted: that a call may
        be retried (``readOnlyHint``, ``idempotentHint``) or needs approval
        (``destructiveHint``).
    """

    name: str = ""
    command: tuple[str, ...] = key((), Length(1))
    env: Mapping[str, str] = key({}, secret=True)
    inherit_env: tuple[str, ...] = ()
    cwd: str = ""
    url: str = key("", field=HttpUrl(), secret=True)
    transport: str = key("auto", OneOf(["auto", "http", "sse"]))
    headers: Mapping[str, str] = key({}, secret=True)
    token_env: str = ""
    oauth: Mapping[str, str] = key({}, field=ma.fields.Nested(_OAuthSchema), secret=True)
    timeout_s: float | None = key(None, Range(0.1, 3600))
    enabled: bool = True
    trust_hints: bool = False

    def to_definition(self, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the data for a connection to the server, including secrets."""
        environ = os.environ if environ is None else environ
        if not self.command:
            headers = dict(self.headers)
            if token := environ.get(self.token_env, ""):
                headers["Authorization"] = f"Bearer {token}"
            found: dict[str, Any] = {"name": self.name, "url": self.url, "headers": headers}
            if self.oauth:
                secret = environ.get(self.oauth.get("client_secret_env", ""), "")
                found["oauth"] = {**self.oauth, "client_secret": secret}
            return found if self.transport == "auto" else {**found, "transport": self.transport}
        inherited = {name: environ[name] for name in self.inherit_env if name in environ}
        return {
            "name": self.name,
            "command": list(self.command),
            "env": {**inherited, **self.env},
            "cwd": self.cwd,
        }


def hash_definition(definition: Mapping[str, Any]) -> str:
    """Return an identifier of a server. Equal definitions have equal identifiers."""
    text = orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


def _check_table_name(value: str) -> None:
    if not value.replace("-", "").replace("_", "").isalnum() or not value.isascii():
        raise ma.ValidationError("The name may only have letters, digits, '-' and '_'.")
    if len(value) > 32:
        raise ma.ValidationError("The name may have at most 32 characters.")


class _OneKind(TableSchema):
    @ma.pre_load
    def _check_names(self, data: Any, **options: Any) -> Any:
        if isinstance(data, Mapping) and "args" in data:  # as in the files of other programs
            raise ma.ValidationError('Write command = ["PROGRAM", "ARGUMENT", …].', "args")
        return super()._check_names(data, **options)

    @ma.validates_schema
    def _check_kind(self, data: dict[str, Any], **options: Any) -> None:
        if ("command" in data) == ("url" in data):
            raise ma.ValidationError('Requires either command = […] or url = "…".', "command")
        of_url = ("headers", "token_env", "oauth", "transport")
        foreign = of_url if "command" in data else ("env", "inherit_env", "cwd")
        for name in foreign:
            if name in data:
                kind = "command" if "command" in data else "url"
                raise ma.ValidationError(f"Cannot be used with {kind}.", name)
        if "oauth" in data and "token_env" in data:
            raise ma.ValidationError("Cannot be used with oauth.", "token_env")


class McpServers(ma.fields.Dict):
    """The ``[mcp.*]`` tables, loaded as the enabled :class:`McpServerConfig` by name."""

    def __init__(self) -> None:
        schema = make_schema(McpServerConfig, base=_OneKind, without="name")
        super().__init__(
            keys=ma.fields.String(validate=_check_table_name), values=ma.fields.Nested(schema)
        )

    def _deserialize(self, *arguments: Any, **options: Any) -> Any:
        loaded = super()._deserialize(*arguments, **options)  # type: ignore[no-untyped-call]
        return {name: replace(one, name=name) for name, one in loaded.items() if one.enabled}
