"""Register the API's blueprints on an application and build its OpenAPI document."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import flask_smorest
from flask import Blueprint, Flask

from ..config.settings import Settings
from ..runtime.version import find_version
from .agui.routes import blp as agui
from .aisdk.routes import blp as aisdk
from .blueprint import ApiBlueprint
from .bot_hooks.routes import blp as hooks
from .chat.routes import blp as chat
from .chat.websocket import blp as websocket
from .configs.routes import blp as configs
from .docs.routes import blp as docs
from .extensions.routes import blp as extensions
from .fallback import FALLBACK, build_fallback
from .fields import describe_max_chars
from .files.chunks import blp as files  # the blueprint of routes.py, with chunks.py's routes too
from .files.origin import OnlyLinks, build_files_origin
from .im.routes import blp as im
from .inbox.routes import blp as inbox
from .keys.routes import blp as keys
from .lists.routes import LISTS
from .mcp.routes import blp as mcp
from .openai_errors import OPENAI_RULE
from .openapi.documents import OpenapiDocuments
from .openapi.shapes import SHAPES
from .request_hooks import add_request_hooks
from .responses.conversations import blp as openai  # the blueprint of openai/routes.py, complete
from .runs.routes import blp as runs
from .schemas import ErrorSchema
from .sessions.messages import blp as messages
from .sessions.routes import blp as sessions
from .widget.page import register_page
from .widget.visits import blp as widget  # the blueprint of routes.py, with visits.py's route too

#: All documented blueprints, in the order of the documentation.
RESOURCES: tuple[ApiBlueprint, ...] = (
    chat,
    websocket,
    runs,
    sessions,
    messages,
    inbox,
    files,
    configs,
    im,
    keys,
    hooks,
    openai,
    agui,
    aisdk,
    mcp,
    *LISTS,
    docs,
    widget,
)

_API_PATH = "/api/v1"

_DESCRIPTION = """\
Talk to an agent over HTTP: chat over server-sent events, sessions, configs and bots.

Send your key as `X-API-Key` or as `Authorization: Bearer`. Every response except streams and
files is a JSON object `{"status","message","data"}`. Errors also have `code` and `request_id`.
"""


class _Api(flask_smorest.Api):
    """flask-smorest's API without its error handler, which would apply to the whole app."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        pass


def build_api(app: Flask, settings: Settings) -> OpenapiDocuments:
    """Register all blueprints of the API on an application.

    :returns: The OpenAPI document in every language.
    """
    base = settings.url_prefix + _API_PATH
    parent = flask_smorest.Blueprint("astrbot_api", __name__)
    add_request_hooks(parent, cors=True)
    for resource in RESOURCES:
        parent.register_blueprint(resource)
    # Flask's method leaves the blueprint undocumented: plugins define these routes.
    Blueprint.register_blueprint(parent, extensions)
    app.register_blueprint(parent, url_prefix=base)
    # Registered separately, so that it stays undocumented.
    add_fallback(app, base, FALLBACK)
    if settings.files_origin:
        opened = build_files_origin()
        add_request_hooks(opened)
        app.register_blueprint(opened, url_prefix=base)
        app.wsgi_app = OnlyLinks(app.wsgi_app, settings, base)  # type: ignore[method-assign]
    register_page(app, settings, _API_PATH)
    _add_aliases(app, base, settings.openai_at_root)
    scopes = {resource.tag: resource.scope for resource in RESOURCES}
    # Built lazily: describing the routes takes twice as long as the rest of this function.
    return OpenapiDocuments(lambda: _make_document(app, parent, settings), settings, scopes)


def add_fallback(app: Flask, prefix: str, name: str) -> None:
    """Answer all requests below a prefix that have no route.

    :param name: Name of the blueprint, which begins with :data:`~.fallback.FALLBACK`.
    """
    fallback = build_fallback()
    add_request_hooks(fallback, cors=True)
    app.register_blueprint(fallback, url_prefix=prefix, name=name)


def _make_document(
    app: Flask, parent: flask_smorest.Blueprint, settings: Settings
) -> dict[str, Any]:
    """Build the OpenAPI document from the decorators of the routes.

    :param parent: The blueprint that contains all others; already registered on the app.
    """
    api = _Api(
        app,
        config_prefix="ASTRBOT",
        spec_kwargs={
            "title": "AstrBot HTTP API",
            "version": find_version(),
            "openapi_version": "3.1.0",
            "info": {
                "description": _DESCRIPTION,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
        },
    )
    api.ma_plugin.converter.add_attribute_function(
        lambda _, field, **more: describe_max_chars(field, settings)
    )
    parent.register_views_in_doc(api, app, api.spec, name=parent.name, parameters=None)
    # A copy, because the limits are written into dictionaries of schemas that all apps share.
    return _finish_document(deepcopy(api.spec.to_dict()), settings)


def _add_aliases(app: Flask, base: str, at_root: bool) -> None:
    """Add the alternative base paths of the OpenAI API."""
    aliases = [f"{base}{OPENAI_RULE}v1/"]  # some clients append v1 to any base URL
    aliases += ["/v1/"] if at_root else []
    for rule in list(app.url_map.iter_rules()):
        if not rule.rule.startswith(base + OPENAI_RULE):
            continue
        rest = rule.rule.removeprefix(base + OPENAI_RULE)
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        view = app.view_functions[rule.endpoint]
        for alias in aliases:
            app.add_url_rule(alias + rest, rule.endpoint, view, methods=methods)
        if rest == "chat/completions":
            # Clients of Azure name the model in the path. Its own endpoint, because flask-smorest
            # documents the rule of an endpoint that has the most parameters.
            path = f"{base}{OPENAI_RULE}deployments/<deployment>/{rest}"
            app.add_url_rule(path, f"{rule.endpoint}_of_azure", view, methods=methods)


def _finish_document(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Add the security schemes, the tags and the limits of the settings."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(deepcopy(SHAPES))
    components["securitySchemes"] = {
        "ApiKeyHeader": {
            "type": "apiKey", "in": "header", "name": "X-API-Key",
            "description": "Your key, `abk_…`.",
        },
        "BearerKey": {
            "type": "http", "scheme": "bearer",
            "description": "Your key, `abk_…`, as a bearer token.",
        },
    }  # fmt: skip
    document["security"] = [{"ApiKeyHeader": []}, {"BearerKey": []}]
    document["tags"] = [
        {"name": resource.tag, "description": resource.description} for resource in RESOURCES
    ]
    body = components["schemas"]["ChatRequest"]["properties"]
    body["message"]["oneOf"][0]["maxLength"] = settings.max_message_chars
    body["message"]["oneOf"][1]["maxItems"] = settings.max_segments
    return document
