"""``GET /openapi.json`` and ``GET /docs``; neither needs a key."""

from __future__ import annotations

from pathlib import Path

import flask_swagger_ui
import orjson
from flask import Response, render_template, request, send_from_directory

from ...errors import ApiError
from ..blueprint import ApiBlueprint
from ..state import get_state
from .translate import choose_language, translate

#: Swagger UI as the installed package has it: no CDN.
_ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
_ASSET_NAMES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'self'"
)

blp = ApiBlueprint(
    "docs", __name__, tag="Documentation", public=True, description="This documentation."
)
blp.template_folder = "templates"


@blp.route("/openapi.json", methods=["GET"])
@blp.doc(
    operationId="getOpenapi",
    security=[],
    parameters=[
        {
            "in": "query",
            "name": "lang",
            "schema": {"type": "string", "enum": ["en", "zh"]},
            "description": "Language of the descriptions.",
        }
    ],
    responses={
        200: {
            "description": "OpenAPI 3.1.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
def get_openapi() -> Response:
    """The OpenAPI document of this API."""
    language = choose_language(request)
    document = dict(translate(dict(get_state().openapi), language))
    # Behind a proxy with a prefix the script root is that prefix.
    document["servers"] = [{"url": request.script_root or "/"}]
    return Response(orjson.dumps(document), mimetype="application/json")


@blp.route("/docs", methods=["GET"])
@blp.doc(
    operationId="getDocs",
    security=[],
    responses={
        200: {
            "description": "A page.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        }
    },
)
def get_docs() -> Response:
    """This documentation as a page on which requests can be tried."""
    page = render_template("astrbot_api/docs.html", lang=choose_language(request))
    headers = {"Content-Security-Policy": _CSP, "Referrer-Policy": "no-referrer"}
    return Response(page, headers=headers, mimetype="text/html")


def get_asset(name: str) -> Response:
    """Serve one file of the documentation page."""
    if name == "start.js":
        response = send_from_directory(Path(__file__).parent / "static", name)
    elif name in _ASSET_NAMES:
        response = send_from_directory(_ASSETS, name)
    else:
        raise ApiError("path_not_found", f"There is no path {request.path}")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


# Outside the documented routes: the page's own business.
blp.record(
    lambda setup: setup.add_url_rule("/docs/assets/<name>", "asset", get_asset, methods=["GET"])
)
