"""Ask what a server depends on, for ``astrbot-api doctor``: models, MCP servers, Redis, bots.

Each is asked once, with a short time limit, for something that changes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import orjson

from ..agent.cancel import Cancellation
from ..agent.provider import ModelOptions
from ..config.agents import ProviderConfig
from ..config.mcp import McpServerConfig
from ..errors import AstrBotError, ProviderError, SettingsError
from ..im.adapter import Adapter
from ..providers import failures
from ..providers.base_url import list_models
from ..providers.local import resolve_auto
from ..providers.openai import OpenAIProvider
from ..runlog.signals.redis_client import open_redis
from ..runtime.outbound import Call, Outbound, OutboundError
from .findings import Finding

#: For one question, in seconds.
_LIMIT_S = 10.0

#: Room for the answer of a model that is asked for a word.
_PROBE_TOKENS = 16

#: Names of models that are listed where the one of a config is not.
_SHOWN_MODELS = 5


def ask_provider(what: str, config: ProviderConfig) -> Finding:
    """Return whether a provider's endpoint answers and has the model of its table."""
    what = f"{what}, provider {config.id}"
    try:
        config = resolve_auto(config, os.environ) if config.type == "auto" else config
    except ProviderError as error:
        return Finding(what, "off", f"not asked: `serve` chooses. {error.message}")
    if config.type == "mock":
        return Finding(what, "ok", "the mock model, which needs no endpoint")
    if config.type != "openai":
        return Finding(what, "off", "the embedded model is not asked: `serve` starts it")
    host = urlsplit(config.base_url).netloc
    brief = replace(
        config, max_retries=0, connect_timeout_s=min(_LIMIT_S, config.connect_timeout_s),
        read_timeout_s=min(_LIMIT_S, config.read_timeout_s),
    )  # fmt: skip
    provider = OpenAIProvider(brief)
    try:
        with Call(limit_s=_LIMIT_S) as call:
            names = list_models(provider.list_models(call))
    except (AstrBotError, OutboundError) as error:
        # Not every endpoint has a list.
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
    """Ask a model for a word, where no list shows that it is there."""
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
    if "credentials" in fault:
        return "correct api_key, or the variable that api_key_env names"
    if listed:
        return "correct model in [provider]"
    if "reached" in fault or "within" in fault:
        return "start the endpoint, or correct base_url or proxy in [provider]"
    if "rate limited" in fault:
        return "wait, or read what your plan allows"
    return "correct base_url in [provider]; most end with /v1"


def ask_mcp(server: McpServerConfig) -> Finding:
    """Return whether an MCP server is there: a URL is asked, a command is looked for."""
    what = f"MCP server {server.name}"
    if server.command:
        program = server.command[0]
        if shutil.which(program, path=server.env.get("PATH") or os.environ.get("PATH")):
            return Finding(what, "ok", f"{program} is installed; it is not started for this check")
        return Finding(what, "fail", f"there is no program {program}", "install it")
    definition = server.to_definition()
    accept = "application/json, text/event-stream"
    headers = {"Content-Type": "application/json", "Accept": accept, **definition["headers"]}
    outbound = Outbound()
    try:
        with Call(limit_s=_LIMIT_S) as call:
            answer = outbound.send(
                "POST", server.url, headers=headers, body=_INITIALIZE, call=call,
                connect_timeout_s=_LIMIT_S, read_timeout_s=_LIMIT_S,
            )  # fmt: skip
            answer.close()
    except OutboundError as error:
        return Finding(what, "fail", f"its address {error.words}", "start it, or correct url")
    finally:
        outbound.close()
    if server.oauth and answer.status == 401:
        return Finding(what, "ok", "it answers; its OAuth is not tried for this check")
    if answer.status in (401, 403):
        text = f"it refuses the credentials (HTTP {answer.status})"
        return Finding(what, "fail", text, "correct headers or token_env")
    if not 200 <= answer.status < 300:
        remedy = "correct url: it must be the address of streamable HTTP"
        return Finding(what, "fail", f"it answers HTTP {answer.status}", remedy)
    return Finding(what, "ok", "it answers")


_INITIALIZE = orjson.dumps(
    {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "astrbot-api doctor", "version": "1"},
        },
    }
)  # fmt: skip


def ask_redis(url: str) -> Iterator[Finding]:
    """Yield whether Redis answers."""
    try:
        client = open_redis(url)
        client.ping()
        client.close()
    except SettingsError as error:
        yield Finding("redis", "fail", str(error), "correct ASTRBOT_REDIS_URL")
    except Exception as error:
        text = f"it does not answer: {type(error).__name__}"
        yield Finding("redis", "fail", text, "start Redis, or correct ASTRBOT_REDIS_URL")
    else:
        yield Finding("redis", "ok", "it answers")


def ask_bot(finding: Finding, adapter: Adapter) -> Finding:
    """Add to what is known of a bot whether its platform takes its credentials."""
    check = getattr(adapter, "check", None)
    if check is None:
        text = f"{finding.text}; not asked: this platform has no question that changes nothing"
        return replace(finding, text=text)
    try:
        name = check()
    except AstrBotError as error:
        remedy = "correct its token or address in bots.toml"
        return replace(finding, state="fail", text=f"{finding.text}: {error}", remedy=remedy)
    return replace(finding, text=f"{finding.text}; the platform knows it as {name}")
