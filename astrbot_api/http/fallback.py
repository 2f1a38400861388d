"""JSON errors for unknown paths and wrong methods.

The checks run in the order key, path, scope, method. Flask would reject a wrong method
before the key is checked. Therefore this blueprint matches every path and method.
"""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Blueprint, current_app, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException

from ..errors import ApiError
from .auth import check_scope, get_caller, require_scope
from .blueprint import ApiBlueprint
from .openai_errors import expects_openai_errors
from .state import get_state

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

#: Paths that a route with a variable would match too, and the methods of their own routes.
_OWN_PATHS = {
    "/chat/sessions/new": {"GET", "HEAD", "POST", "OPTIONS"},
    "/chat/sessions/batch-delete": {"POST", "OPTIONS"},
    "/conversations/filter-options": {"GET", "HEAD", "OPTIONS"},
    "/files/content": {"GET", "HEAD", "OPTIONS"},
    "/openai/responses/compact": {"POST", "OPTIONS"},
    "/openai/responses/input_tokens": set(),
    "/widget/visits": {"POST", "OPTIONS"},
}

#: Paths that OpenAI's clients request if their base URL is that of the API.
_OPENAI_PATHS = ("/chat/completions", "/completions", "/responses", "/models", "/embeddings")

#: The names under which fallbacks are registered begin with this.
FALLBACK = "astrbot_api_fallback"


def build_fallback() -> Blueprint:
    """Return a blueprint that matches all requests without a route."""
    blueprint = Blueprint("fallback", __name__)
    # With the empty path, because Flask would redirect it to the path with a slash, as HTML.
    rules: dict[str, tuple[str, ...]] = dict.fromkeys(("", "/", "/<path:path>"), METHODS)
    for path, answered in _OWN_PATHS.items():
        # Otherwise other methods would match the route with a variable.
        rules[path] = tuple(method for method in METHODS if method not in answered)
    for rule, methods in rules.items():
        blueprint.add_url_rule(
            rule,
            "unknown",
            answer_unknown,
            methods=methods,
            provide_automatic_options=False,
            strict_slashes=True,
        )
    blueprint.record(_match_every_method)
    # Werkzeug routes WebSocket handshakes separately, and would answer them with a bare 400.
    blueprint.add_url_rule(
        "/<path:path>", "unknown", methods=["GET"], websocket=True, provide_automatic_options=False
    )
    return blueprint


class _EveryMethod(set[str]):
    """Methods of a rule that matches every method."""

    def __contains__(self, method: object) -> bool:
        return True


def _match_every_method(state: BlueprintSetupState) -> None:
    """Let the rules match other methods, too, such as PROPFIND.

    Otherwise Werkzeug would reject them before the key is checked, with the methods of these rules
    in ``Allow``. Not None, which also matches every method: extensions expect Flask's sets, such as
    flasgger.
    """
    for rule in state.app.url_map.iter_rules():
        if rule.endpoint.startswith(FALLBACK) and rule.methods == set(METHODS):
            rule.methods = _EveryMethod(METHODS)


def answer_unknown(path: str = "") -> NoReturn:
    """Reject a request without a route: 401, 404, 403 or 405, in this order.

    :raises ApiError: always.
    """
    if request.url_rule is not None and request.url_rule.websocket:
        _refuse_handshake()
    others = find_methods()
    if all(_is_public(endpoint) for endpoint in others.values()) and others:
        _refuse_method(others)
    require_scope(None)
    if not others:
        raise ApiError("path_not_found", f"There is no path {request.path}{_find_advice()}")
    blueprint = current_app.blueprints[next(iter(others.values())).rpartition(".")[0]]
    if isinstance(blueprint, ApiBlueprint):
        check_scope(get_caller().scopes, blueprint.scope)
    _refuse_method(others)


def _find_advice() -> str:
    """Return what to do about an unknown path, or an empty text."""
    path, root = f"{request.script_root}{request.path}", find_api_root()
    if expects_openai_errors(request):
        return "; use responses, conversations, chat/completions or models"
    if not f"{path}/".startswith(f"{root}/"):
        return f"; the API is at {root}"
    if path.removeprefix(root) in _OPENAI_PATHS:
        return f"; OpenAI's API is at {root}/openai"
    if path.endswith("/") and path != f"{root}/":
        return "; remove the slash at its end"
    return ""


def _refuse_handshake() -> NoReturn:
    """Reject a WebSocket handshake on a path that is not a WebSocket."""
    require_scope(None)
    is_openai = expects_openai_errors(request)
    remedy = "send HTTP requests" if is_openai else f"connect to {find_api_root()}/chat/ws"
    raise ApiError("path_not_found", f"There is no WebSocket at {request.path}; {remedy}")


def find_api_root() -> str:
    """Return the path of the API as clients see it, such as ``/bot/api/v1``."""
    return f"{request.script_root}{get_state().settings.url_prefix}/api/v1"


def find_methods() -> dict[str, str]:
    """Return the allowed methods of the current path and their endpoints."""
    found: dict[str, str] = {}
    adapter: Any = current_app.create_url_adapter(request)
    for method in METHODS:
        try:
            endpoint, _ = adapter.match(method=method)
        except HTTPException:
            continue
        if "." in endpoint and not endpoint.startswith(FALLBACK):
            found[method] = endpoint
    return found


def _is_public(endpoint: str) -> bool:
    blueprint = current_app.blueprints.get(endpoint.rpartition(".")[0])
    # The owner's routes have their own login. Their methods are public.
    return not isinstance(blueprint, ApiBlueprint) or blueprint.public


def _refuse_method(others: dict[str, str]) -> NoReturn:
    raise ApiError(
        "method_not_allowed",
        f"{request.path} does not support {request.method}, only {', '.join(others)}",
        headers={"Allow": ", ".join(others)},
    )
