"""``GET /widget.js`` and the files that it loads. No key is needed."""

from __future__ import annotations

from flask import Response, request

from ...errors import ApiError
from ..blueprint import ApiBlueprint
from ..pages import send_asset, send_generated
from ..schemas import path_parameter, plain_response
from .bundle import STATIC, make_script

_MAX_AGE_S = 3600

#: Files that the widget or its page load on demand.
_LOADED_LATER = (
    "temml.min.js", "temml.license.txt", "marked.license.txt", "page.js", "page.css",
)  # fmt: skip

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Pages of other sites load the script. With an integrity attribute they also need the first.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}

blp = ApiBlueprint(
    "widget", __name__, tag="Widget", public=True, description="A chat widget for web pages."
)


_SCRIPT = plain_response(
    "The script.",
    "text/javascript",
    schema={"type": "string", "description": "A script."},
    example="(() => {…})();",
)

_PART = plain_response("The file.", "text/javascript", "text/css", "text/plain")


@blp.get("/widget.js", operation_id="getWidget")
@blp.doc(responses=_SCRIPT)
def get_script() -> Response:
    """Get the chat widget as a script for pages of any site.

    It defines the element `<astrbot-chat>`. No key is needed to load it.
    """
    response = send_generated(make_script(), "text/javascript", f"public, max-age={_MAX_AGE_S}")
    response.headers.update(_HEADERS)
    return response


@blp.get(
    "/widget/<name>",
    operation_id="getWidgetPart",
    parameters=[
        {
            **path_parameter("name", "The file.", "temml.min.js"),
            "schema": {"type": "string", "enum": list(_LOADED_LATER)},
        }
    ],
)
@blp.doc(responses=_PART)
@blp.raises("path_not_found")
def get_part(name: str) -> Response:
    """Get a file that the chat widget loads on demand.

    `temml.min.js` renders formulas. `page.js` belongs to the page `/chat`.
    """
    if name not in _LOADED_LATER:
        raise ApiError("path_not_found", f"There is no path {request.path}")
    response = send_asset(STATIC, name, _MAX_AGE_S)
    response.headers.update(_HEADERS)
    return response
