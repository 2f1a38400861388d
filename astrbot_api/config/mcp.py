"""The ``[mcp.NAME]`` tables of a config: which MCP servers its agent may use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import marshmallow as ma
import orjson


@dataclass(frozen=True, slots=True)
class McpServerConfig:
    """One MCP server: a command that speaks over its standard input and output, or a URL.

    :param name: What its tools' names begin with.
    :param command: Program and arguments; empty for a URL.
    :param env: Variables that the program gets beside ``PATH``, ``HOME`` and their like.
    :param inherit_env: Names of variables of the server's own that it gets too.
    :param cwd: Folder that the program starts in; empty: that of the server.
    :param url: Address of a server that speaks streamable HTTP.
    :param transport: ``http``, ``sse`` (the older one), or ``auto``, which finds it out.
    :param headers: Headers of each request to it.
    :param token_env: Variable with a token, sent as ``Authorization: Bearer``.
    :param oauth: Its checked ``[mcp.NAME.oauth]`` table; empty: there is none.
    :param timeout_s: How long a call may take; None: ``agent.tool_timeout_s``.
    :param trust_hints: Whether what it says of its tools is believed: that one may be called
        twice (``readOnlyHint``, ``idempotentHint``), or needs approval (``destructiveHint``).
    """

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    inherit_env: tuple[str, ...] = ()
    cwd: str = ""
    url: str = field(default="", repr=False)
    transport: str = "auto"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    token_env: str = ""
    oauth: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    timeout_s: float | None = None
    enabled: bool = True
    trust_hints: bool = False

    def to_definition(self, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return all that is needed to reach the server, secrets included.

        :param environ: Where the named variables are; ``os.environ`` by default.
        """
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
    """Return what identifies a server: the same for the same definition."""
    text = orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


def _check_table_name(value: str) -> None:
    if not value.replace("-", "").replace("_", "").isalnum() or not value.isascii():
        raise ma.ValidationError("The name may have letters, digits, '-' and '_' only.")
    if len(value) > 32:
        raise ma.ValidationError("The name may have 32 characters at most.")


class _OAuthSchema(ma.Schema):
    """How the sidecar gets a token by itself; nobody can sign in at a browser there."""

    class Meta:
        unknown = ma.RAISE

    issuer = ma.fields.Url(schemes={"http", "https"}, require_tld=False, required=True)
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
        for key in ("private_key_file", "token_file"):
            if key in data and not os.path.isabs(data[key]):
                raise ma.ValidationError("It must be an absolute path.", key)
        if "private_key_file" in data and ("client_secret_env" in data or "token_file" in data):
            text = "Has no meaning beside client_secret_env and token_file."
            raise ma.ValidationError(text, "private_key_file")
        if not data.keys() & {"client_secret_env", "private_key_file", "token_file"}:
            text = "It needs client_secret_env, private_key_file or token_file."
            raise ma.ValidationError(text, "client_id")


class _ServerSchema(ma.Schema):
    class Meta:
        unknown = ma.RAISE

    command = ma.fields.List(ma.fields.String(), validate=ma.validate.Length(1))
    env = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.String())
    inherit_env = ma.fields.List(ma.fields.String())
    cwd = ma.fields.String()
    url = ma.fields.Url(schemes={"http", "https"}, require_tld=False)
    transport = ma.fields.String(validate=ma.validate.OneOf(["auto", "http", "sse"]))
    headers = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.String())
    token_env = ma.fields.String()
    oauth = ma.fields.Nested(_OAuthSchema)
    timeout_s = ma.fields.Float(validate=ma.validate.Range(0.1, 3600))
    enabled = ma.fields.Boolean()
    trust_hints = ma.fields.Boolean()

    @ma.validates_schema
    def _check_kind(self, data: dict[str, Any], **options: Any) -> None:
        if ("command" in data) == ("url" in data):
            raise ma.ValidationError('It needs either command = […] or url = "…".', "command")
        of_url = ("headers", "token_env", "oauth", "transport")
        foreign = of_url if "command" in data else ("env", "inherit_env", "cwd")
        for key in foreign:
            if key in data:
                kind = "command" if "command" in data else "url"
                raise ma.ValidationError(f"Has no meaning beside {kind}.", key)
        if "oauth" in data and "token_env" in data:
            raise ma.ValidationError("Has no meaning beside oauth.", "token_env")


#: The field of the config's schema.
MCP_FIELD = ma.fields.Dict(
    keys=ma.fields.String(validate=_check_table_name), values=ma.fields.Nested(_ServerSchema)
)


def make_servers(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, McpServerConfig]:
    """Return the servers of a config's checked ``[mcp.*]`` tables that are enabled, by name."""
    servers = {}
    for name, table in tables.items():
        lists = {key: tuple(table[key]) for key in ("command", "inherit_env") if key in table}
        server = McpServerConfig(name=name, **{**table, **lists})
        if server.enabled:
            servers[name] = server
    return servers
