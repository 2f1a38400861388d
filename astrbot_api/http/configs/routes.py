"""``GET /configs``."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...config.files import DEFAULT_CONFIG_ID
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..schemas import envelope_of
from ..state import get_state
from .schemas import ConfigListSchema

blp = ApiBlueprint(
    "configs", __name__, tag="Configs", scope="config", description="The agents to choose from."
)

#: What both lists of configs answer.
CONFIG_LIST = envelope_of("ConfigListAnswer", ConfigListSchema())


@blp.route("/configs", methods=["GET"])
@blp.doc(operationId="listConfigs")
@blp.answers(CONFIG_LIST)
@blp.raises()
def list_configs() -> Response:
    """List the configs that a chat may choose.

    A config is an agent: its model, its system prompt and its tools. Name one
    in `config_id` of a chat, and the session keeps it; there is always
    `default`, which answers where none was chosen.
    """
    return ok({"configs": describe_configs()})


def describe_configs() -> list[dict[str, Any]]:
    """Return every config that the caller's key may use, as clients are shown it."""
    guard = get_caller().guard
    allowed = None if guard is None else guard.rules.configs
    return [
        {
            "id": config.id,
            "name": config.name,
            "path": config.path,
            "is_default": config.id == DEFAULT_CONFIG_ID,
        }
        for config in get_state().agents.configs.list_configs()
        if allowed is None or config.id in allowed
    ]
