"""The server's own Flask application, which has only the API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn
from urllib.parse import urlsplit

from flask import Flask, Request, Response, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import RequestRedirect, Rule

from .errors import ApiError
from .extension import AstrBotAPI
from .http.api import add_fallback
from .http.draining import drain_later
from .http.envelope import fail
from .http.errors import fail_foreign
from .http.fallback import FALLBACK, find_api_root
from .http.openai_errors import ROOT_FALLBACK
from .http.operations.routes import build_operations

_StartResponse = Callable[..., Any]


def create_app(config: Mapping[str, Any] | None = None, *, api: AstrBotAPI | None = None) -> Flask:
    """Create the server's application.

    :param config: Flask configuration, which may have ``ASTRBOT_*`` keys.
    :param api: An extension with the application's own tools or providers.
    :raises SettingsError: if a setting or configuration file is wrong.
    """
    app = _App("astrbot_api", static_folder=None)
    app.url_rule_class = _Rule
    app.config.update(config or {})
    state = (api or AstrBotAPI()).init_app(app)
    app.register_error_handler(HTTPException, _answer_elsewhere)
    app.register_error_handler(ApiError, fail)
    app.register_blueprint(build_operations())
    settings = state.settings
    # Any path that begins like the API's requires a key, as clients expect.
    add_fallback(app, "/api", f"{FALLBACK}_root")
    if settings.openai_at_root:
        add_fallback(app, "/v1", ROOT_FALLBACK)
    home = "/admin/" if settings.owner_access == "pages" else "/api/v1/docs"
    # Relative, since a proxy may add a prefix.
    app.add_url_rule("/", "home", lambda: redirect(f"{settings.url_prefix}{home}"[1:]))
    if settings.url_prefix:
        app.add_url_rule(f"{settings.url_prefix}/", "home_of_prefix", lambda: redirect(home[1:]))
    hops = settings.proxy_hops
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    app.wsgi_app = _RequestLine(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _answer_elsewhere(error: HTTPException) -> Response:
    """Answer errors outside the API in JSON, since this server has no other pages."""
    if error.code == 404:
        answer = fail(ApiError("path_not_found", f"There is nothing here; {_find_remedy()}"))
    elif error.code is None or error.code >= 500:
        answer = fail(ApiError("internal_error", "The server failed; its log has the details."))
    else:
        answer = fail_foreign(error)
    if error.code == 405:
        # For a method that no route can have (Source: RFC 9110, 15.5.6).
        answer.headers.setdefault("Allow", "GET")
    drain_later(request, answer)
    return answer


def _find_remedy() -> str:
    root = find_api_root()
    if request.path.startswith("/v1/"):  # the usual base URL of OpenAI's clients
        return f"the API is at {root}, OpenAI's at {root}/openai; ASTRBOT_OPENAI_AT_ROOT=1 adds /v1"
    if request.path == "/register":  # where MCP clients go when their key is rejected
        return f"{root}/mcp has no OAuth, it needs a valid API key"
    return f"the API is at {root}"


class _App(Flask):
    def raise_routing_exception(self, request: Request) -> NoReturn:
        """Redirect to a path. Werkzeug's address has the host that the caller or a proxy names."""
        error = request.routing_exception
        if isinstance(error, RequestRedirect):
            error.new_url = urlsplit(error.new_url)._replace(scheme="", netloc="").geturl()
        super().raise_routing_exception(request)


class _Rule(Rule):
    """A route that compiles its URL builder on first use, since few are used.

    Werkzeug compiles two functions per route: with 160 routes 80 ms of CPU at each start. If a new
    version no longer calls this method, only that time is lost.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_now = partial(super()._compile_builder, append_unknown)
        compiled: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not compiled:
                compiled.append(compile_now())
            return compiled[0](rule, **values)

        return build


#: A path prefix that a proxy may add.
_PREFIX = re.compile(r"(/[\w.~-]++)*+/?", re.ASCII)


class _RequestLine:
    """Middleware that checks and normalises the request line before routing.

    ``//api/v1``, from a base URL with a trailing slash, becomes ``/api/v1``. HTTP/1.1 requests
    without ``Host`` are refused (Source: RFC 9112, 3.2).
    """

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
            start_response("400 Bad Request", [("Content-Length", "0")])
            return []
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX")
        # One per proxy. A prefix "//host" would redirect to another site.
        if prefix is not None and not all(
            _PREFIX.fullmatch(one.strip()) for one in prefix.split(",")
        ):
            del environ["HTTP_X_FORWARDED_PREFIX"]
        path = environ.get("PATH_INFO", "")
        if path.startswith("//"):
            environ["PATH_INFO"] = "/" + path.lstrip("/")
        return self._wsgi_app(environ, start_response)
