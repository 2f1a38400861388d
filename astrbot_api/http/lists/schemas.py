"""Request and response schemas of the lists."""

from __future__ import annotations

import marshmallow as ma

from ..fields import PageNumber, asked, switch
from ..schemas import (
    RequestSchema,
    envelope_of,
    flag,
    list_of,
    mapping,
    number,
    show,
    text,
    texts,
)  # fmt: skip


class StartTimeSchema(ma.Schema):
    """When the server began."""

    start_time = number("Seconds since 1970.", 1795828205)


class VersionsSchema(ma.Schema):
    """Which API this is."""

    astrbot_version = text("The newest AstrBot whose API this server follows.", "4.29.3")
    astrbot_code_version = text("The same.", "4.29.3")
    webui_version = text("The same, with a `v`.", "v4.29.3")
    server = text("What answers: always `astrbot-api`.", "astrbot-api")
    server_version = text("Its own version.", "0.1.0")


class ProviderSchema(ma.Schema):
    """A model that a config can answer with; its key and its address are not shown."""

    id = text("For `selected_provider` of chat.", "openai")
    type = text("Always `openai_chat_completion`.", "openai_chat_completion")
    provider = text("What speaks to it.", "openai")
    provider_type = text("Always `chat_completion`.", "chat_completion")
    provider_source_id = text("Its source; the same id.", "openai")
    key = texts("Always empty.", [])
    api_base = text("Always empty.", "")
    enable = flag("Always `true`.", True)
    timeout = show(ma.fields.Float, "How long its silence is waited for, in seconds.", 120.0)
    model = text("Its model; empty: its endpoint's first.", "gpt-5-mini")
    modalities = texts("What it takes in.", ["text"])
    configs = texts("The configs that have it.", ["default"])


class ProviderListSchema(ma.Schema):
    """Every provider."""

    providers = list_of(ProviderSchema, "Those of all configs that the key may use.")
    model_metadata = mapping("Always empty.", {})


class ProviderSourceListSchema(ma.Schema):
    """Every provider as a source."""

    provider_sources = list_of(ProviderSchema, "The same as `providers`.")


class ProfileSchema(ma.Schema):
    """One config."""

    id = text("For `config_id` of chat.", "default")
    name = text("For `config_name` of chat.", "default")
    path = text("Its file, below the server's data directory.", "configs/default.toml")


class ProfileListSchema(ma.Schema):
    """Every config."""

    info_list = list_of(ProfileSchema, "Every config; the default one is last.")


class PersonaSchema(ma.Schema):
    """The prompt of a config."""

    persona_id = text("The config's id.", "default")
    system_prompt = text("Its system prompt.", "You are a helpful AI assistant.")


class PluginSchema(ma.Schema):
    """A plugin that was found."""

    name = text("Its name.", "builtin")
    version = text("Its version; empty: unknown.", "0.1.0")
    desc = text("What it does.", "Tools and commands of this server.")
    activated = flag("Whether it is loaded.", True)
    reserved = flag("Whether it is part of this server.", True)


def _words(description: str, example: str) -> ma.fields.String:
    return asked(ma.fields.String, description, example, load_default="")


class ConversationQuerySchema(RequestSchema):
    """The query of the conversations."""

    page = asked(PageNumber, "Which page.", 1, load_default=1)
    page_size = asked(PageNumber, "Most of a page, brought into 1 to 100.", 20, load_default=20)
    search = _words("Words of title, user or id.", "trip")
    keyword = _words("The same as `search`.", "")
    platforms = _words("Platforms, with commas between.", "webchat")
    umo = _words(
        "The conversation of this target alone.",
        "webchat:FriendMessage:webchat!alice!my_session_001",
    )
    include_history = switch(
        "include_history", "Whether `history` is there.", default=True, example=True
    )


class ConversationSchema(ma.Schema):
    """A session, as AstrBot lists conversations."""

    cid = text("The session's id.", "my_session_001")
    user_id = text("Its target.", "webchat:FriendMessage:webchat!alice!my_session_001")
    platform_id = text("Where it began.", "webchat")
    title = text("Its title.", "Greetings", none=True)
    persona_id = text("Always `null`.", None, none=True)
    token_usage = number("Always 0: see `agent_stats` of the messages.", 0)
    created_at = number("Seconds since 1970.", 1795828242)
    updated_at = number("Seconds since 1970.", 1795828242)
    umo_info = mapping("The parts of `user_id`.", {"platform": "webchat"})
    history = text(
        "JSON text: the newest 100 messages, as `role` and `content`; without "
        "`include_history` it is missing.",
        '[{"role":"user","content":[{"type":"text","text":"hi"}]}]',
    )


class ConversationPageSchema(ma.Schema):
    """One page of conversations."""

    conversations = list_of(ConversationSchema, "The page, the last used first.")
    pagination = mapping(
        "Where the page is.",
        {"page": 1, "page_size": 20, "total": 1, "total_pages": 1, "grouped_by_session": False},
    )


class EmptySchema(ma.Schema):
    """Nothing."""


START_TIME = envelope_of("StartTimeAnswer", StartTimeSchema())
VERSIONS = envelope_of("VersionsAnswer", VersionsSchema())
PROVIDERS = envelope_of("ProviderListAnswer", ProviderListSchema())
PROVIDER_SOURCES = envelope_of("ProviderSourceListAnswer", ProviderSourceListSchema())
PROFILES = envelope_of("ProfileListAnswer", ProfileListSchema())
CONVERSATIONS = envelope_of("ConversationPageAnswer", ConversationPageSchema())
CONVERSATION = envelope_of("ConversationAnswer", ConversationSchema())
NOTHING = envelope_of("NothingAnswer", EmptySchema())


def _answer_list(name: str, item: type[ma.Schema]) -> ma.Schema:
    metadata = {"description": "The requested data."}
    fields = {"data": ma.fields.List(ma.fields.Nested(item), metadata=metadata)}
    envelope = envelope_of(f"{name}Envelope", EmptySchema())
    schema: ma.Schema = type(envelope).from_dict(fields, name=name)()  # type: ignore[arg-type]
    return schema


PERSONAS = _answer_list("PersonaListAnswer", PersonaSchema)
PLUGINS = _answer_list("PluginListAnswer", PluginSchema)
