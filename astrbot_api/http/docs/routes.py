"""``GET /openapi.json`` and ``GET /docs``. Neither needs a key."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import flask_swagger_ui
from flask import Response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ...errors import ApiError
from ...translations import LANGUAGE_TAGS, choose_language, translate_text
from ..blueprint import ApiBlueprint
from ..pages import send_asset, send_generated, send_page
from ..schemas import plain_response
from ..state import get_http_state

#: Swagger UI from the installed package, so that no CDN is needed.
_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
_OWN = Path(__file__).parent / "static"
_FOLDER_OF_ASSET = {
    "swagger-ui.css": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
    "favicon-32x32.png": _SWAGGER_UI,
    "page.css": _OWN,
    "start.js": _OWN,
}

_ASSET_MAX_AGE_S = 3600

# The style sheet of Swagger UI contains its images as data: URLs. Swagger UI needs no
# inline scripts or styles.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

#: Texts of the page outside the document.
PAGE_TEXTS = (
    "This page needs JavaScript. Without it, read the OpenAPI document:",
    "The page could not load its files. Reload it; if that does not help, read:",
)

_LANGUAGE = {
    "in": "query",
    "name": "lang",
    "schema": {"type": "string", "examples": ["en", "zh"]},
}

blp = ApiBlueprint(
    "docs", __name__, tag="Documentation", public=True, description="This documentation."
)
blp.template_folder = "templates"


@blp.get("/openapi.json", operation_id="getOpenapi")
@blp.doc(
    parameters=[{**_LANGUAGE, "description": "Language of the texts. The default is English."}],
    responses=plain_response(
        "An OpenAPI 3.1 document.",
        "application/json",
        schema={"type": "object"},
        example={"openapi": "3.1.0", "info": {}, "paths": {}, "components": {}},
    ),
)
def get_openapi() -> Response:
    """Get the OpenAPI document of this API.

    The document is generated from the server's code and contains the limits of its settings.
    Use it to generate clients. No key is needed.
    """
    language = choose_language(request.args.get("lang", ""))
    # Behind a proxy with a path prefix, the script root is that prefix.
    server_url = quote(request.script_root) or "/"
    body = get_http_state().openapi.render(language, server_url)
    # Caches must revalidate, because settings change the document.
    response = send_generated(body, "application/json", "public, no-cache")
    response.headers["Content-Language"] = LANGUAGE_TAGS[language]
    return response


@blp.get("/docs", operation_id="getDocs")
@blp.doc(
    parameters=[
        {
            **_LANGUAGE,
            "description": "Language of the page. The default is chosen by `Accept-Language`.",
        }
    ],
    responses=plain_response("The page.", "text/html", example="<!doctype html><html>…</html>"),
)
def get_docs() -> Response:
    """Get this documentation as an interactive page.

    The page loads all its files from this server. Reading it needs no key. To send requests
    from it, enter your key under “Authorize”.
    """
    language = choose_language(request.args.get("lang", ""), request.accept_languages)
    page = render_template(
        "astrbot_api/docs.html",
        language=language,
        tag=LANGUAGE_TAGS[language],
        title=get_http_state().openapi.get(language)["info"]["title"],
        texts=[translate_text(text, language) for text in PAGE_TEXTS],
    )
    return send_page(page, language, _CSP)


def get_asset(name: str) -> Response:
    """Return a file of the documentation page."""
    folder = _FOLDER_OF_ASSET.get(name)
    if folder is None:
        raise ApiError("path_not_found", f"There is no path {request.path}")
    return send_asset(folder, name, _ASSET_MAX_AGE_S)


def redirect_to_page() -> BaseResponse:
    """Redirect to the path without the trailing slash, because the page uses relative URLs."""
    query = request.query_string.decode("ascii", "replace")
    return redirect(f"../docs?{query}" if query else "../docs", 308)


# Added without the decorator, so that the routes of the page stay undocumented.
blp.record(
    lambda setup: setup.add_url_rule("/docs/assets/<name>", "asset", get_asset, methods=["GET"])
)
blp.record(
    lambda setup: setup.add_url_rule("/docs/", "docs_slash", redirect_to_page, methods=["GET"])
)
