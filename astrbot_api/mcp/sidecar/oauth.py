"""OAuth for MCP servers with a URL, without a browser.

The SDK discovers the authorization server, and requests and refreshes tokens. This module
configures its client: with a secret, with a private key, or with tokens from a file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.auth.utils import issuers_match
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

log = logging.getLogger(__name__)


def make_auth(definition: Mapping[str, Any]) -> httpx2.Auth:
    """Return the authorization of requests to a server.

    :param definition: ``url`` and ``oauth``. ``oauth`` has ``issuer``, ``client_id`` and
        ``client_secret``, optionally ``private_key_file``, ``token_file``, ``scope`` and
        ``auth_method``.
    :raises OSError: when the private key's file cannot be read.
    """
    table, url = definition["oauth"], definition["url"]
    common = {"issuer": table["issuer"], "scope": table.get("scope")}
    if "token_file" in table:
        return _StoredTokens(url, table)
    if "private_key_file" in table:
        key = Path(table["private_key_file"]).read_text(encoding="utf-8")
        signing = SignedJWTParameters(
            issuer=table["client_id"],
            subject=table["client_id"],
            signing_key=key,
            signing_algorithm=_choose_algorithm(key),
        )
        return PrivateKeyJWTOAuthProvider(
            url, _Memory(), table["client_id"], signing.create_assertion_provider(), **common
        )
    return ClientCredentialsOAuthProvider(
        url,
        _Memory(),
        table["client_id"],
        table["client_secret"],
        table.get("auth_method", "client_secret_basic"),
        **common,
    )


def _choose_algorithm(key: str) -> str:
    """Return the algorithm of signatures with a private key in PEM. An invalid one fails later."""
    try:
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        return "RS256"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return {256: "ES256", 384: "ES384"}.get(private.key_size, "ES512")
    return "EdDSA" if isinstance(private, ed25519.Ed25519PrivateKey) else "RS256"


class _Memory:
    """Token storage in memory. Tokens are requested again after a restart."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Do nothing, because the config defines the client."""


class _TokenFile(_Memory):
    """Token storage in a file with a token endpoint's response, replaced after each refresh."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens or _read_tokens(self._path)

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = None  # read the file next time: the operator may replace it
        try:
            _write_private(self._path, tokens.model_dump_json(exclude_none=True))
        except OSError as error:
            self._tokens = tokens
            log.error("%s: cannot write the refreshed tokens: %s", self._path, error.strerror)


def _read_tokens(path: Path) -> OAuthToken:
    """Return the tokens of a file.

    :raises OAuthFlowError: when the file cannot be read or is invalid. The text names the file.
    """
    try:
        return OAuthToken.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise OAuthFlowError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        text = "must be the JSON response of a token endpoint (access_token, refresh_token)"
        raise OAuthFlowError(f"{path}: {text}") from error


def _write_private(path: Path, text: str) -> None:
    """Replace a file atomically, readable only by this user."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


class _StoredTokens(OAuthClientProvider):
    """Uses tokens from an earlier sign-in, and refreshes them.

    The file has no creation time, so tokens are used until the server rejects them. Then they are
    refreshed at the authorization server that the MCP server names.
    """

    def __init__(self, url: str, table: Mapping[str, Any]) -> None:
        secret = table["client_secret"] or None
        method: Any = table.get("auth_method", "client_secret_basic") if secret else "none"
        metadata = OAuthClientMetadata(
            redirect_uris=None,
            grant_types=["refresh_token"],
            token_endpoint_auth_method=method,
            scope=table.get("scope"),
        )
        super().__init__(url, metadata, _TokenFile(Path(table["token_file"])))
        self._issuer: str = table["issuer"]
        self._client = OAuthClientInformationFull(
            client_id=table["client_id"],
            client_secret=secret,
            token_endpoint_auth_method=method,
            grant_types=["refresh_token"],
            # With an issuer, the SDK does not send tokens to another authorization server.
            issuer=self._issuer,
        )

    async def _initialize(self) -> None:
        self.context.current_tokens = await self.context.storage.get_tokens()
        self.context.client_info = self._client
        self._initialized = True

    def _select_authorization_server(self, advertised: list[str]) -> str:
        for server in advertised:
            if issuers_match(server, self._issuer):
                return server
        raise OAuthFlowError("the MCP server's authorization server is not the configured issuer")

    async def _perform_authorization(self) -> httpx2.Request:
        """Refresh the tokens, because no user can sign in here."""
        if not self.context.can_refresh_token() or self.context.oauth_metadata is None:
            raise self._require_login("the server rejected the tokens")
        return await self._refresh_token()

    async def _handle_token_response(self, response: httpx2.Response) -> None:
        if not await self._handle_refresh_response(response):
            raise self._require_login("the tokens cannot be refreshed")

    def _require_login(self, why: str) -> OAuthFlowError:
        self._initialized = False  # read the file again next time
        return OAuthFlowError(f"{why}; sign in again and replace token_file")
