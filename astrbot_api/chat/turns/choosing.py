"""Which model of a config answers a turn, and with which fields of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config.agents import AgentConfig, ProviderConfig
from ...errors import ApiError, refuse
from .turn import TurnRequest

#: Fields of a model's request that limit the length of its answer.
_LENGTHS = ("max_tokens", "max_completion_tokens")


def choose_provider(config: AgentConfig, request: TurnRequest) -> ProviderConfig:
    """Return the provider of a turn: the selected one, or the config's default.

    :raises ApiError: ``provider_not_found``, or ``model_not_found`` if the provider lists its
        models without this one. With a session key, a provider without a list allows only its own
        model.
    """
    provider = config.provider
    if config.upstream is not None:
        return provider  # the upstream AstrBot checks the model
    if request.provider_id:
        found = config.providers.get(request.provider_id)
        if found is None:
            raise ApiError(
                "provider_not_found", f"selected_provider not found: {request.provider_id}"
            )
        provider = found
    listed = provider.models
    if not listed and request.guard is not None and request.guard.key_id != request.guard.root_id:
        # Session keys reach untrusted clients, which must not choose an expensive model.
        listed = (provider.model,)
    if request.model and listed and request.model not in listed:
        raise ApiError("model_not_found", f"selected_model not found: {request.model}")
    return provider


def limit_fields(fields: Mapping[str, Any], provider: ProviderConfig) -> dict[str, Any]:
    """Return a caller's fields, with lengths limited to the config's values."""
    limits = [
        provider.extra[name] for name in _LENGTHS if isinstance(provider.extra.get(name), int)
    ]
    return {
        name: min(value, *limits) if name in _LENGTHS and limits else value
        for name, value in fields.items()
    }


def refuse_model_fields(request: TurnRequest) -> None:
    """Refuse model fields if something other than a model answers.

    :raises ApiError: ``invalid_request``.
    """
    if request.caller_tools:
        raise refuse("tools: this config answers without a model of its own")
    if "response_format" in request.model_fields:
        raise refuse("response_format: this config answers without a model of its own")
