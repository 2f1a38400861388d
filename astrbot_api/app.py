"""The server's own application: the API, and nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from flask import Flask, Response, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Rule

from .errors import ApiError, refuse
from .extension import AstrBotAPI
from .http.envelope import fail
from .http.fallback import answer_unknown
from .http.operations.routes import build_operations
from .http.request_body import drain_later

_StartResponse = Callable[..., Any]


def create_app(config: Mapping[str, Any] | None = None, *, api: AstrBotAPI | None = None) -> Flask:
    """Make the server's application.

    :param config: Flask configuration, with ``ASTRBOT_*`` keys among it.
    :param api: An extension with tools or providers of its own.
    :raises SettingsError: for a wrong setting or configuration file.
    """
    app = Flask("astrbot_api", static_folder=None)
    app.url_rule_class = _Rule
    app.config.update(config or {})
    state = (api or AstrBotAPI()).init_app(app)
    app.register_error_handler(HTTPException, _answer_elsewhere)
    app.add_url_rule(
        "/api/<path:rest>", "api_unknown", _answer_unknown_api, methods=_ANY_METHOD,
        provide_automatic_options=False,
    )  # fmt: skip
    app.register_error_handler(ApiError, fail)
    app.register_blueprint(build_operations())
    settings = state.settings
    home = "/admin/" if settings.owner_access == "pages" else "/api/v1/docs"
    # Relative, since a proxy may have put a prefix of its own in front.
    target = f"{settings.url_prefix}{home}"[1:]
    app.add_url_rule("/", "home", lambda: redirect(target))
    hops = settings.proxy_hops
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    app.wsgi_app = _RequestLine(app.wsgi_app)  # type: ignore[method-assign]
    return app


_ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _answer_unknown_api(rest: str) -> Response:
    """Ask for a key wherever a path begins like the API's, as clients expect."""
    answer_unknown()


def _answer_elsewhere(error: HTTPException) -> Response:
    """Answer what is outside the API in JSON too: this server has no other pages."""
    answer = fail(_to_api_error(error))
    drain_later(request, answer)
    return answer


def _to_api_error(error: HTTPException) -> ApiError:
    if error.code == 404:
        return ApiError("path_not_found", "There is nothing here; the API is at /api/v1")
    if error.code == 405:
        # Methods that no route of ours could have (Source: RFC 9110, 15.5.6).
        allowed = getattr(error, "valid_methods", None) or ("GET",)
        return ApiError(
            "method_not_allowed",
            error.description or "Method not allowed",
            headers={"Allow": ", ".join(sorted(allowed))},
        )
    if error.code is not None and error.code < 500:
        return refuse(error.description or error.name)
    return ApiError("internal_error", "The server failed; its log has the details.")


class _Rule(Rule):
    """A route that compiles what builds its URL when a URL is built; few are.

    Werkzeug compiles two functions a route: with 160 routes 80 ms of CPU at each start.
    Should it call this no longer, only that time is lost.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_now = partial(super()._compile_builder, append_unknown)
        compiled: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not compiled:
                compiled.append(compile_now())
            return compiled[0](rule, **values)

        return build


#: A path that a proxy may have put in front of ours.
_PREFIX = re.compile(r"(/[\w.~-]++)*+/?", re.ASCII)


class _RequestLine:
    """What HTTP asks of every server before a route is looked for.

    ``//api/v1``, which a base URL with a slash at its end makes, is read as
    ``/api/v1``; HTTP/1.1 without ``Host`` is refused (Source: RFC 9112, 3.2).
    """

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
            start_response("400 Bad Request", [("Content-Length", "0")])
            return []
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX")
        # One for each proxy. "//host" would be another site in each redirect.
        if prefix is not None and not all(
            _PREFIX.fullmatch(one.strip()) for one in prefix.split(",")
        ):
            del environ["HTTP_X_FORWARDED_PREFIX"]
        path = environ.get("PATH_INFO", "")
        if path.startswith("//"):
            environ["PATH_INFO"] = "/" + path.lstrip("/")
        return self._wsgi_app(environ, start_response)
