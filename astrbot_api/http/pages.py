"""Responses with pages and their files: headers, caching and conditional requests."""

from __future__ import annotations

from pathlib import Path

from flask import Response, request, send_from_directory

from ..translations import LANGUAGE_TAGS


def send_page(html: str, language: str, csp: str) -> Response:
    """Return a page that everyone may see, in the language of the request."""
    headers = {
        "Content-Security-Policy": csp,
        "Content-Language": LANGUAGE_TAGS[language],
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
        "Vary": "Accept-Language",
    }
    return Response(html, headers=headers, mimetype="text/html")


def send_asset(folder: Path, name: str, max_age_s: int) -> Response:
    """Return a file of a page, or 304 if the browser has it."""
    response = send_from_directory(folder, name, max_age=max_age_s)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if response.status_code == 304:
        # Werkzeug opened the file, and a response without a body would not close it.
        response.close()
    return response


def send_generated(body: bytes, mimetype: str, cache_control: str) -> Response:
    """Return a generated body, or 304 if the client has it."""
    response = Response(body, mimetype=mimetype)
    response.headers["Cache-Control"] = cache_control
    response.add_etag()
    response.make_conditional(request)
    return response
