"""Tests the permissions of a key at an AstrBot, for ``doctor`` and the first start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ...config.upstream import UpstreamConfig
from ...errors import ProviderError
from ...keys.caller import is_reserved
from ...runtime.outbound import Call
from ...upstream.client import AstrBotClient
from ...upstream.transport import UpstreamRefusal
from . import Finding

_LIMIT_S = 10.0
_NOBODY = "astrbot-api-check"
_MAX_CONFIGS = 20


def ask_upstream(
    what: str, upstream: UpstreamConfig, admin_names: Sequence[str]
) -> Iterator[Finding]:
    """Test the routes that an AstrBot's key may use. Changes nothing there.

    :param admin_names: Usernames that only keys with ``chat:admin`` may use here.
    """
    if not upstream.resolve_api_key():
        yield Finding(
            what, "fail", "there is no API key", f"set the variable {upstream.api_key_env}"
        )
        return
    client = AstrBotClient(upstream)
    try:
        chat = _ask_chat(what, client, upstream)
        yield chat
        if chat.state != "fail":
            yield from _ask_rest(what, client, upstream)
            yield from _ask_admins(what, client, upstream, tuple(admin_names))
    finally:
        client.close()


def _ask_chat(what: str, client: AstrBotClient, upstream: UpstreamConfig) -> Finding:
    where = upstream.base_url
    try:
        client.list_sessions(_NOBODY)
    except UpstreamRefusal as error:
        if error.status in (401, 403):
            return Finding(
                what, "fail", f"{where} does not accept the key for chats: {error}",
                "make a key with the scope chat on AstrBot's page, or correct api_key",
            )  # fmt: skip
        return Finding(
            what, "fail", f"{where} is no AstrBot with an HTTP API, or is older than 4.25: {error}",
            "correct base_url, or update that AstrBot",
        )  # fmt: skip
    except ProviderError as error:
        text = f"{where}: {str(error).rstrip('.')}"
        return Finding(what, "fail", text, "start that AstrBot, or correct base_url")
    return Finding(what, "ok", f"{where} accepts chats")


def _ask_rest(what: str, client: AstrBotClient, upstream: UpstreamConfig) -> Iterator[Finding]:
    ask = partial(_ask, what)
    yield ask(
        client.list_configs, "config", "its configs can be listed", "its configs cannot be listed"
    )
    yield ask(
        lambda: _ask_file(client), "file", "files can be sent and received",
        "files in messages and answers will be missing",
    )  # fmt: skip
    yield ask(
        client.list_bots, "im", "its messengers are available", "its messengers are not available"
    )
    if client.has_login:
        try:
            client.log_in(Call(limit_s=_LIMIT_S))
        except ProviderError as error:
            yield Finding(
                what, "warn", f"the owner's login is not accepted: {error}",
                "correct owner_username and owner_password",
            )  # fmt: skip
            return
    if upstream.username.startswith("api_key:"):
        yield Finding(what, "ok", "interrupted answers are looked up under the key's own name")
    else:
        yield ask(
            lambda: client.list_contexts(_NOBODY, _NOBODY, Call(limit_s=_LIMIT_S)), "data",
            "interrupted answers can be looked up", "interrupted answers cannot be looked up",
        )  # fmt: skip


def _ask_admins(
    what: str, client: AstrBotClient, upstream: UpstreamConfig, reserved: tuple[str, ...]
) -> Iterator[Finding]:
    """Find administrators of AstrBot whose names any key may use here."""
    before, placeholder, after = upstream.username.partition("{username}")
    if not placeholder:
        return
    try:
        configs = client.list_configs()[:_MAX_CONFIGS]
        admins = {name for one in configs for name in client.list_admins(str(one["id"]))}
    except (ProviderError, LookupError, TypeError):
        return  # 4.25 does not show them
    names = sorted(
        name
        for there in admins
        if there.startswith(before) and there.endswith(after)
        and not is_reserved(name := there[len(before) : len(there) - len(after)], reserved)
    )  # fmt: skip
    if names:
        yield Finding(
            what, "warn",
            "if its key has the scope chat:admin, every key of this server can act as its "
            f"administrators {', '.join(names)}",
            "add these names to ASTRBOT_ADMIN_NAMES",
        )  # fmt: skip


def _ask(what: str, ask: Callable[[], object], scope: str, good: str, bad: str) -> Finding:
    try:
        ask()
    except UpstreamRefusal as error:
        if error.status in (401, 403):
            return Finding(what, "warn", bad, f"give the key the scope {scope} on AstrBot's page")
        return Finding(what, "warn", f"{bad}: {error}", "update that AstrBot")
    except (ProviderError, LookupError, TypeError) as error:
        return Finding(what, "warn", f"{bad}: {error}", "read AstrBot's log")
    return Finding(what, "ok", good)


def _ask_file(client: AstrBotClient) -> None:
    try:
        client.open_file(_NOBODY, Call(limit_s=_LIMIT_S)).close()
    except UpstreamRefusal as error:
        if error.status in (401, 403):
            raise  # other refusals concern only this file
