"""``/providers``, ``/personas``, ``/plugins``, ``/conversations`` …: read-only, without secrets."""

from __future__ import annotations

import json
import math
from typing import Any

from flask import Response

from ...chat.turns.outcome import text_of
from ...db.conversations import list_conversations as read_conversations
from ...db.messages import list_messages_before
from ...errors import ApiError
from ...im.umo import Umo, parse_umo, split_webchat
from ...plugins.finding import BUILT_IN
from ...runtime.clock import to_iso
from ...runtime.threads import let_others_run
from ...runtime.version import find_version
from ..auth import check_username, get_caller
from ..blueprint import ApiBlueprint
from ..configs.routes import describe_configs, list_own_configs
from ..envelope import ok
from ..schemas import in_path
from ..state import get_http_state, get_state
from .schemas import (
    CONVERSATION,
    CONVERSATIONS,
    NOTHING,
    PERSONAS,
    PLUGINS,
    PROFILES,
    PROVIDER_SOURCES,
    PROVIDERS,
    START_TIME,
    VERSIONS,
    ConversationQuerySchema,
)

#: The newest AstrBot whose recordings the tests replay.
FOLLOWED_VERSION = "4.29.3"

#: Messages of ``history``, and most conversations of a page.
_MAX_HISTORY = 100
_MAX_HISTORY_CHARS = 500_000
_MAX_PAGE_SIZE = 100
_MAX_PAGE = 2**31 - 1

_WEBCHAT = "webchat"

stats = ApiBlueprint(
    "stats", __name__, tag="Server", public=True, description="What answers, and since when."
)
providers = ApiBlueprint(
    "providers", __name__, tag="Providers", scope="provider", description="The models."
)
profiles = ApiBlueprint(
    "profiles", __name__, tag="Config profiles", scope="config",
    description="The configs under their newer name.",
)  # fmt: skip
personas = ApiBlueprint(
    "personas", __name__, tag="Personas", scope="persona", description="The prompts."
)
plugins = ApiBlueprint(
    "plugins", __name__, tag="Plugins", scope="plugin", description="What was added."
)
conversations = ApiBlueprint(
    "conversations", __name__, tag="All conversations", scope="data",
    description="The sessions of all users.",
)  # fmt: skip

LISTS = (providers, profiles, personas, plugins, conversations, stats)

_CID = [in_path("conversation_id", "The session.", "my_session_001")]


@stats.route("/stats/start-time", methods=["GET"])
@stats.doc(operationId="getStartTime", security=[])
@stats.answers(START_TIME)
@stats.raises()
def get_start_time() -> Response:
    """Return when this server began.

    Clients ask it whether a server is there. It needs no key.
    """
    return ok({"start_time": int(get_http_state().started_at)})


@stats.route("/stats/versions", methods=["GET"])
@stats.doc(operationId="getVersions", security=[])
@stats.answers(VERSIONS)
@stats.raises()
def get_versions() -> Response:
    """Return the version of the API, and of this server.

    It needs no key.
    """
    return ok(
        {
            "astrbot_version": FOLLOWED_VERSION,
            "astrbot_code_version": FOLLOWED_VERSION,
            "webui_version": f"v{FOLLOWED_VERSION}",
            "server": "astrbot-api",
            "server_version": find_version(),
        }
    )


@providers.route("/providers", methods=["GET"])
@providers.doc(operationId="listProviders")
@providers.answers(PROVIDERS)
@providers.raises()
def list_providers() -> Response:
    """List the models of the configs that the key may use.

    Keys and addresses are never shown.
    """
    return ok({"providers": _describe_providers(), "model_metadata": {}})


@providers.route("/provider-sources", methods=["GET"])
@providers.doc(operationId="listProviderSources")
@providers.answers(PROVIDER_SOURCES)
@providers.raises()
def list_provider_sources() -> Response:
    """List the same models as sources.

    Here each is its own source.
    """
    return ok({"provider_sources": _describe_providers()})


@profiles.route("/config-profiles", methods=["GET"])
@profiles.doc(operationId="listConfigProfiles")
@profiles.answers(PROFILES)
@profiles.raises()
def list_config_profiles() -> Response:
    """List the configs that a chat may choose.

    They are those of GET /configs.
    """
    return ok({"info_list": describe_profiles()})


@personas.route("/personas", methods=["GET"])
@personas.doc(operationId="listPersonas")
@personas.answers(PERSONAS)
@personas.raises()
def list_personas() -> Response:
    """List the prompts of the configs that the key may use.

    Each config has one, `agent.system_prompt`.
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


@personas.route("/personas/tree", methods=["GET"])
@personas.doc(operationId="listPersonaFolders")
@personas.answers(PERSONAS)
@personas.raises()
def list_persona_folders() -> Response:
    """List the folders of the prompts.

    There are none.
    """
    return ok([])


@plugins.route("/plugins", methods=["GET"])
@plugins.doc(operationId="listPlugins")
@plugins.answers(PLUGINS)
@plugins.raises()
def list_plugins() -> Response:
    """List the plugins that were found.

    Those that are loaded are `activated`.
    """
    return ok([_describe_plugin(one) for one in get_state().agents.plugins.list_records()])


@conversations.route("/conversations", methods=["GET"])
@conversations.arguments(ConversationQuerySchema(), location="query")
@conversations.doc(operationId="listConversations")
@conversations.answers(CONVERSATIONS)
@conversations.raises("invalid_request")
def list_conversations(query: dict[str, Any]) -> Response:
    """List the sessions of all users, the last used first.

    A key that may speak as some usernames only sees their sessions.
    """
    page = min(max(1, query["page"]), _MAX_PAGE)
    size = min(max(1, query["page_size"]), _MAX_PAGE_SIZE)
    found, total = _read(query, limit=size, offset=(page - 1) * size)
    # The rows share what one answer may hold of messages.
    chars = _MAX_HISTORY_CHARS // max(1, len(found)) if query["include_history"] else 0
    return ok(
        {
            "conversations": [_describe(row, chars) for row in found],
            "pagination": {
                "page": page, "page_size": size, "total": total,
                "total_pages": math.ceil(total / size), "grouped_by_session": False,
            },
        }
    )  # fmt: skip


@conversations.route("/conversations/filter-options", methods=["GET"])
@conversations.doc(operationId="listConversationFilters")
@conversations.answers(NOTHING)
@conversations.raises()
def list_filters() -> Response:
    """List the platforms that conversations can be of.

    They are the web chat and the bots.
    """
    names = [_WEBCHAT, *sorted(get_state().im.bots.list_ids())]
    return ok({"bots": [{"id": name, "type": name} for name in names]})


@conversations.route("/conversations/<conversation_id>", methods=["GET"], parameters=_CID)
@conversations.doc(operationId="getConversation")
@conversations.answers(CONVERSATION)
@conversations.raises("session_not_found", "username_reserved")
def get_conversation(conversation_id: str) -> Response:
    """Return one session of any user.

    The key must be one that may speak as this user.
    """
    return ok(_describe(_get(conversation_id), _MAX_HISTORY_CHARS))


@conversations.route("/conversations/<conversation_id>", methods=["DELETE"], parameters=_CID)
@conversations.doc(operationId="deleteConversation")
@conversations.answers(NOTHING)
@conversations.raises("session_not_found", "username_reserved")
def delete_conversation(conversation_id: str) -> Response:
    """Delete a session of any user.

    Its messages go with it, and its turns are stopped.
    """
    row = _get(conversation_id)
    get_state().chat.remover.remove(row["session_id"], row["creator"])
    return ok({})


def describe_profiles() -> list[dict[str, Any]]:
    """Return the configs that the key may use, as newer versions list them."""
    return [{key: one[key] for key in ("id", "name", "path")} for one in describe_configs()]


def _describe_providers() -> list[dict[str, Any]]:
    """Return each provider once; of two with one id the default config's is shown."""
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


def _read(
    query: dict[str, Any], *, session_id: str = "", limit: int = 1, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    rules, username = get_caller().rules, get_caller().rules.username
    if query.get("umo"):
        named, session_id = _split_umo(parse_umo(query["umo"]))
        if named and username not in (None, named):
            return [], 0
        username = named or username
    with get_state().db.read() as db:
        return read_conversations(
            db,
            words=(query.get("search") or query.get("keyword") or "").strip()[:200],
            username=username,
            prefix=rules.username_prefix,
            hidden=get_caller().reach(get_state().settings.admin_names).reserved_names,
            session_id=rules.session_id or session_id,
            platforms=[one for one in query.get("platforms", "").split(",") if one],
            limit=limit,
            offset=offset,
        )


def _split_umo(umo: Umo) -> tuple[str, str]:
    """Return the username, if any, and the session of a target: a messenger's is the target."""
    return split_webchat(umo.session_id) if umo.platform_id == _WEBCHAT else ("", str(umo))


def _get(session_id: str) -> dict[str, Any]:
    found, _ = _read({}, session_id=session_id)
    if not found:
        raise ApiError("session_not_found", f"session not found: {session_id}")
    check_username(found[0]["creator"])
    return found[0]


def _describe(row: dict[str, Any], history_chars: int) -> dict[str, Any]:
    """Return a conversation, with its newest messages up to so many characters.

    :param history_chars: 0: without its messages.
    """
    platform, creator = row["platform_id"], row["creator"]
    inner = f"{_WEBCHAT}!{creator}!{row['session_id']}"
    umo = f"{_WEBCHAT}:FriendMessage:{inner}" if platform == _WEBCHAT else row["session_id"]
    _, kind, last = (*umo.split(":", 2), "", "")[:3]
    described = {
        "platform_id": platform, "user_id": umo, "cid": row["session_id"],
        "title": row["display_name"], "persona_id": None, "token_usage": 0,
        "created_at": row["created_at"] // 1_000_000,
        "updated_at": row["updated_at"] // 1_000_000,
        "umo_info": {
            "umo": umo, "platform": platform, "message_type": kind, "session_id": last,
            "auto_name": creator, "user_alias": "", "display_name": creator,
            "creator_sender_id": creator,
        },
    }  # fmt: skip
    if not history_chars:
        return described
    let_others_run()
    return {**described, "history": _read_history(row["id"], history_chars)}


def _read_history(session: int, max_chars: int) -> str:
    """Return the newest messages as JSON text, as AstrBot keeps conversations."""
    with get_state().db.read() as db:
        found, _ = list_messages_before(
            db, session, before=2**63 - 1, limit=_MAX_HISTORY, max_chars=max_chars
        )
    messages = [
        {
            "role": "user" if one.content.get("type") == "user" else "assistant",
            "content": [{"type": "text", "text": text_of(one.content)}],
        }
        for one in reversed(found)
    ]
    return json.dumps(messages, ensure_ascii=False)
