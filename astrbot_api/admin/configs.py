"""``/admin/data/config-files``: the configs with their models, and invalid files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from flask import Response

from ..config.agents import AgentConfig, ProviderConfig
from ..errors import ProviderError, SettingsError
from ..http.configs.routes import describe_config
from ..http.envelope import ok
from ..http.state import get_state
from ..providers.registry import Providers
from .access import AdminBlueprint

blp = AdminBlueprint("config_files", "/admin/data/config-files")


@blp.get("")
def list_config_files() -> Response:
    """Return the configs, and the configuration files whose present content is invalid."""
    state = get_state()
    invalid = [
        *state.agents.configs.list_invalid(),
        state.im.bots.file.find_invalid(),
        state.im.webhooks.find_invalid(),
    ]
    return ok(
        {
            "configs": [_describe(one) for one in state.agents.configs.list_configs()],
            "invalid": [asdict(one) for one in invalid if one is not None],
        }
    )


def _describe(config: AgentConfig) -> dict[str, Any]:
    agents = get_state().agents
    others = [one for one in config.providers.values() if one != config.provider]
    return {
        **describe_config(config),
        "upstream": config.upstream and _name_host(config.upstream.base_url),
        "models": [_describe_model(agents.providers, one) for one in (config.provider, *others)],
        "system_prompt": config.agent.system_prompt,
        "mcp": [
            {"name": name, "status": status, "tools": tools}
            for name, status, tools in agents.mcp.list_servers(config)
        ],
        "approve": config.tools.approve,
        "origins": config.widget.origins if config.widget else [],
    }


def _describe_model(providers: Providers, config: ProviderConfig) -> dict[str, str]:
    """Return a model without its keys. ``error`` says what it lacks; its endpoint is not asked."""
    error = ""
    try:
        providers.check(config)
        config = providers.resolve(config)
    except (ProviderError, SettingsError) as caught:
        error = str(caught)
    return {
        "id": config.id,
        "type": config.type,
        "model": config.model,
        "host": _name_host(config.base_url),
        "error": error,
    }


def _name_host(url: str) -> str:
    """Return a URL's host and port, without the credentials that it may contain."""
    return urlsplit(url).netloc.rpartition("@")[2]
