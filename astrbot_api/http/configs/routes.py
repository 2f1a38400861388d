"""``GET /configs``: list the configs."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response

from ...config.agents import AgentConfig
from ...config.files import DEFAULT_CONFIG_ID
from ...config.upstream import CONFIG_SEPARATOR
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..schemas import envelope_of, flag, list_of, text
from ..state import get_state

blp = ApiBlueprint(
    "configs", __name__, tag="Configs", scope="config", description="The available agents."
)


class ProfileSchema(ma.Schema):
    """A config, under its name in newer AstrBot versions."""

    id = text("The id for `config_id` of chat.", "default")
    name = text("The name for `config_name` of chat.", "default")
    path = text(
        "The config's file, relative to the server's data directory.", "configs/default.toml"
    )


class ConfigSchema(ProfileSchema):
    """A config, which defines an agent."""

    is_default = flag("Whether this is the default config.", True)


class ConfigListSchema(ma.Schema):
    configs = list_of(ConfigSchema, "All configs. The default one is last.")
    info_list = list_of(
        ConfigSchema,
        "The same list under its name in newer AstrBot versions. Only in /chat/configs.",
    )


#: The response of both lists of configs.
CONFIG_LIST = envelope_of("ConfigListAnswer", ConfigListSchema())


@blp.get("/configs", operation_id="listConfigs")
@blp.answers(CONFIG_LIST)
def list_configs() -> Response:
    """List the configs that a chat may choose.

    A config defines an agent: its model, system prompt and tools. A session keeps the config
    that you choose by `config_id` in a chat. The config `default` always exists and is used if
    you choose none. If config `ID` forwards to an AstrBot server, the configs of that server are
    listed as `ID:THEIRS`.
    """
    return ok({"configs": describe_configs()})


def list_own_configs() -> list[AgentConfig]:
    """Return the configs of this server that the caller's key may use."""
    allowed = get_caller().rules.configs
    found = get_state().agents.configs.list_configs()
    return [one for one in found if allowed is None or one.id in allowed]


def describe_configs() -> list[dict[str, Any]]:
    """Return the public fields of every config that the caller's key may use."""
    allowed = get_caller().rules.configs
    agents = get_state().agents
    found: list[dict[str, Any]] = []
    for config in agents.configs.list_configs():
        if config.upstream is not None:
            others = agents.upstreams.list_configs(config.upstream)
            found += [_describe_upstream_config(config, one) for one in others]
        found.append(describe_config(config))
    return [one for one in found if allowed is None or one["id"] in allowed]


def _describe_upstream_config(config: AgentConfig, other: dict[str, Any]) -> dict[str, Any]:
    name = str(other.get("name") or other["id"])
    chosen = f"{config.id}{CONFIG_SEPARATOR}{other['id']}"
    return {"id": chosen, "name": name, "path": config.path, "is_default": False}


def describe_config(config: AgentConfig) -> dict[str, Any]:
    """Return the public fields of a config."""
    is_default = config.id == DEFAULT_CONFIG_ID
    return {"id": config.id, "name": config.name, "path": config.path, "is_default": is_default}
