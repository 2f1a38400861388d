"""Run the views of each plugin in a small Flask application of its own.

This isolates a plugin's error handlers, hooks and registration errors from the main
application. It also allows plugins to be enabled while the server runs.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self, TypeVar, cast

from flask import Blueprint, Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ...errors import ApiError
from ...keys.caller import Reach
from ..envelope import fail
from ..errors import fail_foreign
from ..state import get_http_state, get_state

log = logging.getLogger(__name__)

#: Views that take longer are logged as slow, in seconds.
SLOW_S = 1.0

_PUBLIC = "_astrbot_public"

_CALLER_KEY = "astrbot_api.plugin_caller"

F = TypeVar("F")


def public_route(view: F) -> F:
    """Allow requests without a key to a view of a plugin's blueprint.

    Put this below the decorator of the route::

        @blueprint.get("/health")
        @public_route
        def health() -> str: ...
    """
    setattr(view, _PUBLIC, True)
    return view


@dataclass(frozen=True, slots=True)
class RouteCaller:
    """The caller of a plugin's view, as ``flask.g.caller``. None in public views without a key.

    :param key_id: Id of the key, or an id for the owner or a user of the application.
    :param username: The key's only or default username, or None.
    """

    key_id: str
    username: str | None
    scopes: frozenset[str]
    reach: Reach

    def check_username(self, username: str) -> None:
        """Check that the caller may use a username.

        :raises ApiError: if it may not.
        """
        self.reach.check_username(username)


class _Application(Flask):
    """Responds 500 also to exceptions that Flask does not catch."""

    def dispatch_request(self) -> Any:
        try:
            return super().dispatch_request()
        except (SystemExit, CancelledError) as error:  # of argparse or asyncio
            # It would end the worker's thread, without a response.
            raise RuntimeError(f"the view raised {error!r}") from error


class PluginSite:
    """The views of one plugin.

    :param extensions: Extensions of the main application; the error handlers use its state.
    :raises Exception: if Flask rejects the blueprint.
    """

    def __init__(self, name: str, blueprint: Blueprint, extensions: Mapping[str, Any]) -> None:
        self._name = name
        self._app = _Application(f"astrbot_api.plugins.{name}", static_folder=None, root_path="/")
        self._app.extensions.update(extensions)
        self._app.config["PROPAGATE_EXCEPTIONS"] = False
        self._app.before_request(self._begin)
        self._app.register_error_handler(ApiError, fail)
        self._app.register_error_handler(Exception, self._failed)
        self._app.register_blueprint(blueprint)

    def prepare(self, environ: Mapping[str, Any]) -> dict[str, Any]:
        """Return the WSGI environ for the plugin's application.

        :param environ: Environ of the original request; its path contains the plugin's name.
        """
        own = {key: value for key, value in environ.items() if not key.startswith("werkzeug.")}
        head, mark, rest = own["PATH_INFO"].partition(f"/plugins/extensions/{self._name}")
        own["SCRIPT_NAME"] = own.get("SCRIPT_NAME", "") + head + mark
        own["PATH_INFO"] = rest or "/"
        own.pop("HTTP_TRANSFER_ENCODING", None)
        return own

    def needs_key(self, own: dict[str, Any]) -> bool:
        """Return whether a request needs a key. Unknown paths need one, too.

        :param own: The environ from :meth:`prepare`.
        """
        adapter = self._app.create_url_adapter(self._app.request_class(own))
        if adapter is None:
            return True
        try:
            endpoint, _ = adapter.match()
        except HTTPException:
            return True
        return not self._is_public(endpoint)

    def answer(self, own: dict[str, Any], body: bytes, caller: RouteCaller | None) -> Response:
        """Run the plugin's view and return its response.

        :param own: The environ from :meth:`prepare`.
        """
        own |= {
            "wsgi.input": BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
            _CALLER_KEY: caller,
        }
        began = time.monotonic()
        context = contextvars.copy_context()
        response = cast("Response", context.run(Response.from_app, self._app, own))
        response.response = _InContext(context, response.response)
        took_s = time.monotonic() - began
        if took_s > SLOW_S:
            where = f"{own['REQUEST_METHOD']} {own['PATH_INFO'][:200]}"
            log.warning("plugin %s took %.1f s to answer %s", self._name, took_s, where)
        if response.mimetype == "text/event-stream":
            response.headers.setdefault("X-Accel-Buffering", "no")
        return response

    def _is_public(self, endpoint: str | None) -> bool:
        return getattr(self._app.view_functions.get(endpoint or ""), _PUBLIC, False)

    def _begin(self) -> None:
        g.caller = request.environ[_CALLER_KEY]
        if g.caller is None and request.url_rule and not self._is_public(request.endpoint):
            raise ApiError("missing_api_key", "Missing API key")  # a second check, for safety

    def _failed(self, error: Exception) -> Any:
        if isinstance(error, RequestRedirect):
            return error
        if isinstance(error, HTTPException) and (error.code or 500) < 500:
            return fail_foreign(error)
        rule = request.url_rule.rule if request.url_rule else request.path
        log.error("plugin %s failed at %s %s", self._name, request.method, rule, exc_info=error)
        message = f"The plugin {self._name} failed; the log has the details under this request_id."
        return fail(ApiError("internal_error", message))


class _InContext:
    """The body of a plugin's response, iterated in the context of its view.

    ``stream_with_context`` leaves the plugin's request in the context variables until the body
    ends. In the variables of the main application, Flask would find the wrong request.
    """

    def __init__(self, context: contextvars.Context, body: Iterable[Any]) -> None:
        self._context, self._body = context, body
        self._left = iter(body)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._context.run(next, self._left)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)


#: Held while a site is built: Flask runs some of a blueprint's functions only for its first app.
_BUILDING = threading.Lock()


def find_site(name: str) -> PluginSite | None:
    """Return the views of a plugin, or None if it is disabled or has none."""
    record = get_state().agents.plugins.find_record(name)
    if record is None or not record.started or record.blueprint is None:
        return None
    blueprint, sites = record.blueprint, get_http_state().plugin_sites
    with _BUILDING:
        if blueprint not in sites:
            sites[blueprint] = _build_site(name, blueprint)
        site: PluginSite | None = sites[blueprint]
    return site


def _build_site(name: str, blueprint: Any) -> PluginSite | None:
    try:
        return PluginSite(name, blueprint, current_app.extensions)
    except Exception:
        log.exception("plugin %s serves no requests: Flask rejects its blueprint", name)
        return None
