"""``/plugins/extensions/{plugin}/…``: the routes of plugins. Source: the path of AstrBot 4.29."""

from __future__ import annotations

from flask import Blueprint, Response, request

from ...errors import ApiError
from ...runtime.logs import get_log_fields, set_log_fields
from ..auth import find_caller, get_caller, require_scope
from ..fallback import METHODS
from ..request_body import read_body
from ..request_hooks import KEEPS_ALLOW_KEY
from ..state import get_state
from ..usernames import get_bound_username, get_reach
from .sites import RouteCaller, find_site

#: Scope that a key needs for a plugin's views.
_SCOPE = "plugin"

#: Undocumented, because plugins define these routes.
blp = Blueprint("extensions", __name__)


@blp.route("/plugins/extensions/<name>", methods=METHODS, provide_automatic_options=False)
@blp.route("/plugins/extensions/<name>/", methods=METHODS, provide_automatic_options=False)
@blp.route(
    "/plugins/extensions/<name>/<path:rest>", methods=METHODS, provide_automatic_options=False
)
def answer_for_plugin(name: str, rest: str = "") -> Response:
    """Dispatch a request to a plugin. Needs the scope ``plugin`` unless the view is public.

    :raises ApiError: like every route with a key, ``path_not_found`` or ``body_too_large``.
    """
    site = find_site(name)
    own = {} if site is None else site.prepare(request.environ)
    if site is None or site.needs_key(own):
        require_scope(_SCOPE)
        set_log_fields(**get_log_fields(), key_prefix=get_caller().key_prefix)
    if site is None:
        raise ApiError("path_not_found", f"There is no plugin {name} that answers requests")
    request.environ[KEEPS_ALLOW_KEY] = True
    body = read_body(request, get_state().settings.max_json_bytes)
    return site.answer(own, body, _describe_caller())


def _describe_caller() -> RouteCaller | None:
    caller = find_caller(request.environ)
    if caller is None:
        return None
    return RouteCaller(caller.key_id, get_bound_username() or None, caller.scopes, get_reach())
