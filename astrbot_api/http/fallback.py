"""What no route answers: unknown paths and wrong methods, in JSON.

The order of checks is key, scope, path, method. Flask would answer a wrong
method before it asks for the key, so a rule of our own takes every path and
every method below the prefix.
"""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Blueprint, current_app, request
from werkzeug.exceptions import HTTPException

from ..errors import ApiError
from .auth import check_scope, get_caller, require_scope
from .blueprint import ApiBlueprint
from .openai_errors import OPENAI_PATH

#: Every method that a route can answer.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

#: Paths that are also names of resources, and what they do answer.
_OWN_PATHS = {
    "/chat/sessions/new": {"GET", "HEAD", "POST", "OPTIONS"},
    "/chat/sessions/batch-delete": {"POST", "OPTIONS"},
    "/conversations/filter-options": {"GET", "HEAD", "OPTIONS"},
    "/files/content": {"GET", "HEAD", "OPTIONS"},
    "/openai/responses/compact": {"POST", "OPTIONS"},
    "/widget/visits": {"POST", "OPTIONS"},
}

#: The name under which the fallback is registered.
FALLBACK = "astrbot_api_fallback"


def build_fallback() -> Blueprint:
    """Return the blueprint that takes whatever the others do not."""
    blueprint = Blueprint("fallback", __name__)
    # The empty one, since Flask would redirect the root, as HTML, to the same with a slash.
    rules: dict[str, tuple[str, ...]] = dict.fromkeys(("", "/", "/<path:path>"), METHODS)
    for path, answered in _OWN_PATHS.items():
        # Else the route of one session would take the rest.
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
    return blueprint


def answer_unknown(path: str = "") -> NoReturn:
    """Refuse what no route takes: 401, 403, 404 or 405, in this order.

    :raises ApiError: always.
    """
    others = find_methods()
    if all(_is_public(endpoint) for endpoint in others.values()) and others:
        _refuse_method(others)
    require_scope(None)
    if not others:
        advice = (
            "; use /openai/responses or /openai/chat/completions"
            if OPENAI_PATH in request.path
            else ""
        )
        raise ApiError("path_not_found", f"There is no path {request.path}{advice}")
    blueprint = current_app.blueprints[next(iter(others.values())).rpartition(".")[0]]
    if isinstance(blueprint, ApiBlueprint):
        check_scope(get_caller().scopes, blueprint.scope)
    _refuse_method(others)


def find_methods() -> dict[str, str]:
    """Return the methods that this path does answer, and their endpoints."""
    found: dict[str, str] = {}
    adapter: Any = current_app.create_url_adapter(request)
    for method in METHODS:
        try:
            endpoint, _ = adapter.match(method=method)
        except HTTPException:
            continue
        if "." in endpoint and not endpoint.startswith(f"{FALLBACK}."):
            found[method] = endpoint
    return found


def _is_public(endpoint: str) -> bool:
    blueprint = current_app.blueprints.get(endpoint.rpartition(".")[0])
    # The owner's routes have a login of their own, and show their methods to anybody.
    return not isinstance(blueprint, ApiBlueprint) or blueprint.public


def _refuse_method(others: dict[str, str]) -> NoReturn:
    raise ApiError(
        "method_not_allowed",
        f"{request.path} does not answer {request.method}, only {', '.join(others)}",
        headers={"Allow": ", ".join(others)},
    )
