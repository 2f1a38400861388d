"""Checks a server's dependencies for ``doctor``: models, MCP servers, Redis, bots.

Each check has no side effects and a short timeout.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ...agent.cancel import Cancellation
from ...agent.provider import ModelOptions
from ...config.agents import ProviderConfig
from ...config.mcp import McpServerConfig
from ...errors import AstrBotError, ProviderError, SettingsError
from ...im.adapter import Adapter
from ...providers import failures
from ...providers.base_url import list_models
from ...providers.local import BAD_MODEL_URL, resolve_auto
from ...providers.openai import OpenAIProvider
from ...runtime.outbound import Call, OutboundError
from ...runtime.redis_client import open_redis
from . import Finding

#: Timeout of one check, in seconds.
_LIMIT_S = 10.0

#: Token limit of a model's reply in a check.
_PROBE_TOKENS = 16

#: Fraction of Redis' memory limit above which it is reported.
_NEARLY_FULL = 0.9

#: Number of listed models in the message that a model is missing.
_SHOWN_MODELS = 5


def ask_provider(what: str, config: ProviderConfig) -> Finding:
    """Check that a provider's endpoint responds and has the configured model."""
    what = f"{what}, provider {config.id}"
    try:
        config = resolve_auto(config, os.environ) if config.type == "auto" else config
    except ProviderError as error:
        if str(error) == BAD_MODEL_URL:
            return Finding(what, "fail", BAD_MODEL_URL)
        text = "not checked: `serve` finds an Ollama or starts the embedded model"
        return Finding(what, "off", f"{text}; gunicorn alone has no model")
    if config.type == "mock":
        return Finding(what, "ok", "the mock model needs no endpoint")
    if config.type != "openai":
        return Finding(what, "off", "the embedded model is not checked: `serve` starts it")
    host = urlsplit(config.base_url).netloc.rpartition("@")[2]
    brief = replace(
        config, max_retries=0, connect_timeout_s=min(_LIMIT_S, config.connect_timeout_s),
        read_timeout_s=min(_LIMIT_S, config.read_timeout_s),
    )  # fmt: skip
    provider = OpenAIProvider(brief)
    try:
        with Call(limit_s=_LIMIT_S) as call:
            names = list_models(provider.list_models(call))
    except (AstrBotError, OutboundError) as error:
        # Some endpoints do not list their models.
        return _ask_model(what, host, provider, config.model, str(error), [])
    if not config.model:
        if names:
            return Finding(what, "ok", f"{host} answers; it has {len(names)} models")
        remedy = "set model in [provider]"
        return Finding(what, "warn", f"{host} answers, but it lists no model", remedy)
    if any(name in (config.model, f"models/{config.model}") for name in names):
        return Finding(what, "ok", f"{host} answers and has the model {config.model}")
    return _ask_model(what, host, provider, config.model, "", names)


def _ask_model(
    what: str, host: str, provider: OpenAIProvider, model: str, fault: str, names: list[str]
) -> Finding:
    """Check a model with a short prompt, if no list contains it."""
    if not model:
        return Finding(what, "fail", f"{host}: {fault}", _find_remedy(fault))
    options = ModelOptions(Cancellation(), model=model, extra={"max_tokens": _PROBE_TOKENS})
    try:
        for _ in provider.stream([{"role": "user", "content": "Say: ok"}], [], options):
            break
    except (AstrBotError, OutboundError) as error:
        if str(error) not in (failures.THOUGHT_ONLY, failures.NO_ROOM):
            known = f"; it lists {', '.join(names[:_SHOWN_MODELS])}" if names else ""
            text = f"{host}: {error}{known}"
            return Finding(what, "fail", text, _find_remedy(str(error), bool(names)))
    return Finding(what, "ok", f"{host} answers with the model {model}")


def _find_remedy(fault: str, listed: bool = False) -> str:
    if "could not be reached" in fault or "no balance left" in fault:
        return ""  # the text names it
    if "credentials" in fault:
        return "correct api_key, or the variable in api_key_env"
    if "denied access" in fault:
        return "correct api_key, or the rights of its account"
    if listed:
        return "correct model in [provider]"
    if "within" in fault:
        return "start the endpoint, or correct base_url or proxy in [provider]"
    if "rate limited" in fault:
        return "wait, or check the limits of your plan"
    return "correct base_url in [provider]; most base URLs end with /v1"


def ask_mcp(server: McpServerConfig) -> Finding:
    """Check an MCP server: a URL must list its tools, a command and the extra must be installed."""
    what = f"MCP server {server.name}"
    if importlib.util.find_spec("mcp") is None:
        text = "MCP servers need a package that is not installed (mcp)"
        return Finding(what, "fail", text, "pip install 'astrbot-api[mcp]'")
    if server.command:
        program = server.command[0]
        if shutil.which(program, path=server.env.get("PATH") or os.environ.get("PATH")):
            return Finding(what, "ok", f"{program} is installed; this check does not start it")
        return Finding(what, "fail", f"the program {program} is not installed", "install it")
    return _ask_mcp_url(what, server)


def _ask_mcp_url(what: str, server: McpServerConfig) -> Finding:
    from ...mcp.sidecar.hub import check_server  # needs the extra

    definition = server.to_definition()
    # With tokens, the check could use up a refresh token.
    definition.pop("oauth", None)
    fault = asyncio.run(check_server(definition, _LIMIT_S))
    if not fault:
        return Finding(what, "ok", "it answers, and lists its tools")
    if "HTTP 401" in fault and server.oauth:
        return Finding(what, "ok", "it answers; this check does not test its OAuth")
    if re.search(r"HTTP 40[13]|'40[13] ", fault):
        return Finding(what, "fail", f"it {fault}", "correct headers or token_env")
    remedy = "start it, or correct url: the address of streamable HTTP or HTTP+SSE"
    return Finding(what, "fail", f"it {fault}", remedy)


def ask_redis(url: str, prefix: str) -> Finding:
    """Check that Redis responds, accepts writes and keeps the events."""
    try:
        client = open_redis(url)
    except SettingsError as error:
        return Finding("redis", "fail", str(error), "correct ASTRBOT_REDIS_URL")
    from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

    checked = f"{prefix}:signals:checked"
    with client:
        try:
            client.eval("return redis.call('EXISTS', KEYS[1])", 1, f"{prefix}:ended")
            client.publish(checked, "")
            try:
                found = _judge_redis(client.info())
            except NoPermissionError:
                text = "it answers; role and memory not checked: its user may not use INFO"
                found = Finding("redis", "ok", text)
            if found.state == "ok":
                # Only a write shows a failed snapshot (MISCONF) or missing replicas (NOREPLICAS).
                client.set(checked, 1, ex=60)
            return found
        except NoPermissionError as error:
            fault: Exception = error
            remedy = f"allow the user ~{prefix}:* &{prefix}:* +@all -@dangerous (ACL SETUSER)"
        except AuthenticationError as error:
            fault, remedy = error, "correct the user and the password in ASTRBOT_REDIS_URL"
        except ResponseError as error:
            fault, remedy = error, "correct Redis' configuration, or ASTRBOT_REDIS_URL"
        except Exception as error:
            fault, remedy = error, "start Redis, or correct ASTRBOT_REDIS_URL"
    words = " ".join(str(fault).split()) or type(fault).__name__
    return Finding("redis", "fail", words, remedy)


def _judge_redis(info: Mapping[str, Any]) -> Finding:
    """Return the first problem in the output of Redis' command INFO."""
    if int(str(info.get("redis_version", "6")).partition(".")[0]) < 6:
        text = f"its version {info['redis_version']} is too old"
        return Finding("redis", "fail", text, "install Redis 6 or newer")
    if info.get("cluster_enabled"):
        return Finding("redis", "fail", "a Redis cluster is not supported", "use a single Redis")
    if info.get("role") == "slave":
        remedy = "set the address of the primary in ASTRBOT_REDIS_URL"
        return Finding("redis", "fail", "it is a replica, which rejects writes", remedy)
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = info.get("maxmemory_policy", "noeviction")
    if limit and policy != "noeviction":
        text = f"it may delete events of running turns (maxmemory-policy {policy})"
        return Finding("redis", "warn", text, "set maxmemory-policy noeviction")
    if limit and used >= limit * _NEARLY_FULL:
        text = f"its memory is {used * 100 // limit} % full"
        return Finding("redis", "warn", text, "raise maxmemory, or lower ASTRBOT_RUN_LOG_KEEP_S")
    return Finding("redis", "ok", "it answers")


def ask_bot(finding: Finding, adapter: Adapter) -> Finding:
    """Add to a bot's finding whether its platform accepts its credentials."""
    check = getattr(adapter, "check", None)
    if check is None:
        text = f"{finding.text}; not checked: this platform has no request without side effects"
        return replace(finding, text=text)
    try:
        name = check()
    except AstrBotError as error:
        remedy = "correct its token or address in bots.toml"
        return replace(finding, state="fail", text=f"{finding.text}: {error}", remedy=remedy)
    return replace(finding, text=f"{finding.text}; the platform knows it as {name}")
