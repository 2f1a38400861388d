"""Request and response schemas of the lists."""

from __future__ import annotations

import marshmallow as ma

from ..configs.routes import ProfileSchema
from ..fields import PageNumber, query_flag, request_field
from ..schemas import (
    RequestSchema,
    envelope_of,
    flag,
    list_of,
    mapping,
    number,
    response_field,
    text,
    text_list,
)  # fmt: skip


class StartTimeSchema(ma.Schema):
    start_time = number("The start time as a Unix timestamp in seconds.", 1795828205)


class VersionsSchema(ma.Schema):
    astrbot_version = text("The AstrBot version whose API this server implements.", "4.29.3")
    astrbot_code_version = text("The same version.", "4.29.3")
    webui_version = text("The same version, with the prefix `v`.", "v4.29.3")
    server = text("The server program, always `astrbot-api`.", "astrbot-api")
    server_version = text("The version of this server.", "0.1.0")


class ProviderSchema(ma.Schema):
    """A model of a config, without its API key and base URL."""

    id = text("The id for `selected_provider` of chat.", "openai")
    type = text("Always `openai_chat_completion`.", "openai_chat_completion")
    provider = text("The provider type of this server.", "openai")
    provider_type = text("Always `chat_completion`.", "chat_completion")
    provider_source_id = text("The source's id, equal to `id`.", "openai")
    key = text_list("Always empty.", [])
    api_base = text("Always empty.", "")
    enable = flag("Always `true`.", True)
    timeout = response_field(ma.fields.Float, "Read timeout of the endpoint, in seconds.", 120.0)
    model = text(
        "The model's name. If empty, the first model of the endpoint is used.", "gpt-5-mini"
    )
    modalities = text_list("Accepted kinds of input.", ["text"])
    configs = text_list("The configs with this provider.", ["default"])


class ProviderListSchema(ma.Schema):
    providers = list_of(ProviderSchema, "The providers of all configs that the key may use.")
    model_metadata = mapping("Always empty.", {})


class ProviderSourceListSchema(ma.Schema):
    """All providers as sources."""

    provider_sources = list_of(ProviderSchema, "The same as `providers`.")


class ProfileListSchema(ma.Schema):
    info_list = list_of(ProfileSchema, "All configs. The default one is last.")


class PersonaSchema(ma.Schema):
    """The prompt of a config."""

    persona_id = text("The config's id.", "default")
    system_prompt = text("The system prompt.", "You are a helpful AI assistant.")


class PluginSchema(ma.Schema):
    name = text("The plugin's name.", "builtin")
    version = text("The plugin's version, or empty if it is unknown.", "0.1.0")
    desc = text("A short description.", "Tools and commands of this server.")
    activated = flag("Whether the plugin is loaded.", True)
    reserved = flag("Whether the plugin is part of this server.", True)


def _text_filter(description: str, example: str) -> ma.fields.String:
    return request_field(ma.fields.String, description, example, load_default="")


class ConversationQuerySchema(RequestSchema):
    page = request_field(PageNumber, "The page number.", 1, load_default=1)
    page_size = request_field(
        PageNumber,
        "Maximum number of conversations per page, clamped to 1 to 100.",
        20,
        maximum=100,
        load_default=20,
    )
    search = _text_filter("Text to search in title, user and id.", "trip")
    keyword = _text_filter("The same as `search`.", "")
    platforms = _text_filter("Platforms, separated by commas.", "webchat")
    umo = _text_filter(
        "Only the conversation of this target (UMO).",
        "webchat:FriendMessage:webchat!alice!my_session_001",
    )
    include_history = query_flag("Whether to return `history`.", default=True, example=True)


class ConversationSchema(ma.Schema):
    """A session in AstrBot's format of conversations."""

    cid = text("The session's id.", "my_session_001")
    user_id = text(
        "The session's target (UMO).", "webchat:FriendMessage:webchat!alice!my_session_001"
    )
    platform_id = text("The session's platform.", "webchat")
    title = text("The session's title.", "Greetings", none=True)
    persona_id = text("Always `null`.", None, none=True)
    token_usage = number("Always 0. See `agent_stats` of the messages.", 0)
    created_at = number("Time of creation as a Unix timestamp in seconds.", 1795828242)
    updated_at = number("Time of the last use as a Unix timestamp in seconds.", 1795828242)
    umo_info = mapping("The parts of `user_id`.", {"platform": "webchat"})
    history = text(
        "JSON text of the newest 100 messages with `role` and `content`. Missing without "
        "`include_history`.",
        '[{"role":"user","content":[{"type":"text","text":"hi"}]}]',
    )


class ConversationPageSchema(ma.Schema):
    conversations = list_of(ConversationSchema, "The conversations, most recently used first.")
    pagination = mapping(
        "The position of the page.",
        {"page": 1, "page_size": 20, "total": 1, "total_pages": 1, "grouped_by_session": False},
    )


class EmptySchema(ma.Schema):
    """An object without members."""


START_TIME = envelope_of("StartTimeAnswer", StartTimeSchema())
VERSIONS = envelope_of("VersionsAnswer", VersionsSchema())
PROVIDERS = envelope_of("ProviderListAnswer", ProviderListSchema())
PROVIDER_SOURCES = envelope_of("ProviderSourceListAnswer", ProviderSourceListSchema())
PROFILES = envelope_of("ProfileListAnswer", ProfileListSchema())
CONVERSATIONS = envelope_of("ConversationPageAnswer", ConversationPageSchema())
CONVERSATION = envelope_of("ConversationAnswer", ConversationSchema())
NOTHING = envelope_of("NothingAnswer", EmptySchema())

PERSONAS = envelope_of("PersonaListAnswer", list_of(PersonaSchema, "The requested data."))
PLUGINS = envelope_of("PluginListAnswer", list_of(PluginSchema, "The requested data."))
