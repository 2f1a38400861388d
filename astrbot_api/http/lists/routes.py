"""``/providers``, ``/personas``, ``/plugins`` and other read-only lists, without secrets."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...plugins.finding import BUILT_IN
from ...runtime.clock import to_iso
from ...runtime.version import find_version
from ..blueprint import ApiBlueprint
from ..configs.routes import describe_configs, list_own_configs
from ..envelope import ok
from ..state import get_http_state, get_state
from .conversations import blp as conversations
from .schemas import (
    PERSONAS,
    PLUGINS,
    PROFILES,
    PROVIDER_SOURCES,
    PROVIDERS,
    START_TIME,
    VERSIONS,
)

#: The newest AstrBot version whose recorded responses are part of the tests.
_FOLLOWED_VERSION = "4.29.3"

stats = ApiBlueprint(
    "stats",
    __name__,
    tag="Server",
    public=True,
    description="Version and start time of this server.",
)
providers = ApiBlueprint(
    "providers",
    __name__,
    tag="Providers",
    scope="provider",
    description="The models of the configs.",
)
profiles = ApiBlueprint(
    "profiles", __name__, tag="Config profiles", scope="config",
    description="The configs, under the name of newer AstrBot versions.",
)  # fmt: skip
personas = ApiBlueprint(
    "personas",
    __name__,
    tag="Personas",
    scope="persona",
    description="The system prompts of the configs.",
)
plugins = ApiBlueprint(
    "plugins", __name__, tag="Plugins", scope="plugin", description="The plugins of this server."
)
LISTS = (providers, profiles, personas, plugins, conversations, stats)


@stats.get("/stats/start-time", operation_id="getStartTime")
@stats.answers(START_TIME)
def get_start_time() -> Response:
    """Return the start time of this server.

    Clients use this to check that a server is available. No key is needed.
    """
    return ok({"start_time": int(get_http_state().started_at)})


@stats.get("/stats/versions", operation_id="getVersions")
@stats.answers(VERSIONS)
def get_versions() -> Response:
    """Return the versions of the API and of this server.

    No key is needed.
    """
    return ok(
        {
            "astrbot_version": _FOLLOWED_VERSION,
            "astrbot_code_version": _FOLLOWED_VERSION,
            "webui_version": f"v{_FOLLOWED_VERSION}",
            "server": "astrbot-api",
            "server_version": find_version(),
        }
    )


@providers.get("/providers", operation_id="listProviders")
@providers.answers(PROVIDERS)
def list_providers() -> Response:
    """List the models of the configs that the key may use.

    The response never contains API keys or base URLs.
    """
    return ok({"providers": _describe_providers(), "model_metadata": {}})


@providers.get("/provider-sources", operation_id="listProviderSources")
@providers.answers(PROVIDER_SOURCES)
def list_provider_sources() -> Response:
    """List the models as provider sources.

    Each model is its own source.
    """
    return ok({"provider_sources": _describe_providers()})


@profiles.get("/config-profiles", operation_id="listConfigProfiles")
@profiles.answers(PROFILES)
def list_config_profiles() -> Response:
    """List the configs that a chat may choose.

    The configs are the same as in GET /configs.
    """
    found = [{key: one[key] for key in ("id", "name", "path")} for one in describe_configs()]
    return ok({"info_list": found})


@personas.get("/personas", operation_id="listPersonas")
@personas.answers(PERSONAS)
def list_personas() -> Response:
    """List the system prompts of the configs that the key may use.

    Each config has one system prompt, `agent.system_prompt`.
    """
    since = to_iso(int(get_http_state().started_at * 1_000_000))
    return ok(
        [
            {
                "persona_id": config.id, "system_prompt": config.agent.system_prompt,
                "begin_dialogs": [], "tools": None, "skills": None,
                "custom_error_message": None, "folder_id": None, "sort_order": 0,
                "created_at": since, "updated_at": since,
            }
            for config in list_own_configs()
        ]
    )  # fmt: skip


@personas.get("/personas/tree", operation_id="listPersonaFolders")
@personas.answers(PERSONAS)
def list_persona_folders() -> Response:
    """List the folders of the personas.

    The list is always empty.
    """
    return ok([])


@plugins.get("/plugins", operation_id="listPlugins")
@plugins.answers(PLUGINS)
def list_plugins() -> Response:
    """List the plugins of this server.

    Loaded plugins are marked as `activated`.
    """
    return ok([_describe_plugin(one) for one in get_state().agents.plugins.list_records()])


def _describe_providers() -> list[dict[str, Any]]:
    """Return each provider once. If configs share an id, the default config takes precedence."""
    found: dict[str, dict[str, Any]] = {}
    models = [one for one in list_own_configs() if one.upstream is None]
    for config in reversed(models):
        for provider_id, provider in config.providers.items():
            shown = found.setdefault(
                provider_id,
                {
                    "id": provider_id, "type": "openai_chat_completion",
                    "provider": provider.type, "provider_type": "chat_completion", "key": [],
                    "api_base": "", "enable": True, "timeout": provider.read_timeout_s,
                    "provider_source_id": provider_id, "model": provider.model,
                    "modalities": list(provider.modalities), "configs": [],
                },
            )  # fmt: skip
            shown["configs"].append(config.id)
    return list(found.values())


def _describe_plugin(record: Any) -> dict[str, Any]:
    plugin = record.plugin
    built_in = record.found.source == BUILT_IN
    lines = (type(plugin).__doc__ or "").strip().splitlines() if plugin is not None else []
    return {
        "name": record.name, "marketplace_name": record.name, "repo": "",
        "author": str(getattr(plugin, "author", "") or ""), "desc": lines[0] if lines else "",
        "version": str(getattr(plugin, "version", "") or ""), "reserved": built_in,
        "activated": plugin is not None, "online_version": "", "display_name": None, "logo": None,
        "support_platforms": [], "astrbot_version": None,
        "installed_at": to_iso(int(get_http_state().started_at * 1_000_000)), "i18n": {},
        "root_dir_name": record.name, "install_source": None, "updates_enabled": False,
        "update_disabled_reason": "", "pages": [],
    }  # fmt: skip
