"""``GET /chat``: a page with the widget, if the setting ``chat_page`` is on.

And ``{{ astrbot_chat() }}``, which adds the widget to pages of an embedding application.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from flask import Blueprint, Flask, Response, render_template, request
from markupsafe import Markup, escape

from ...config.settings import Settings
from ...translations import LANGUAGE_TAGS, WIDGET, choose_language, load_catalogue
from ..pages import send_page

# The key of a link is in the URL fragment (after #), which browsers do not send.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types astrbot-chat"
)


#: Asked before a link replaces the key of the tab.
_QUESTION = "This link opens another chat. Close the chat of this tab?"


def register_page(app: Flask, settings: Settings, api_path: str) -> None:
    """Add the page to an application if the setting enables it."""
    if not settings.chat_page:
        return
    page = Blueprint("astrbot_chat_page", __name__, template_folder="templates")

    @page.get("/chat")
    def show_chat() -> Response:
        language = choose_language(request.args.get("lang", ""), request.accept_languages)
        texts = load_catalogue(language, WIDGET)
        server = f"{request.script_root}{settings.url_prefix}"
        html = render_template(
            "astrbot_api/chat.html",
            tag=LANGUAGE_TAGS[language],
            title=texts.get("Chat", "Chat"),
            question=texts.get(_QUESTION, _QUESTION),
            server=server,
            api=server + api_path,
        )
        return send_page(html, language, _CSP)

    app.register_blueprint(page, url_prefix=settings.url_prefix or None)


def make_chat_macro(url_prefix: str) -> Callable[..., Markup]:
    """Return the template function.

    :param url_prefix: URL prefix of the API in the application.
    """

    def astrbot_chat(
        *, nonce: str = "", suggestions: Sequence[str] = (), **attributes: object
    ) -> Markup:
        """Return the script tag and the element of the chat.

        :param nonce: Nonce of the page's content security policy, or empty.
        :param attributes: Attributes of the element, with ``_`` instead of ``-``. Attributes
            with the value None or False are omitted.
        """
        server = f"{request.script_root}{url_prefix}"
        named = {"server": server, **attributes}
        if suggestions:
            named["suggestions"] = orjson.dumps(list(suggestions)).decode()
        shown = " ".join(
            f'{escape(name.replace("_", "-"))}="{escape("" if value is True else value)}"'
            for name, value in named.items()
            if value is not None and value is not False
        )
        guard = f' nonce="{escape(nonce)}"' if nonce else ""
        return Markup(
            f'<script defer src="{escape(server)}/api/v1/widget.js"{guard}></script>\n'
            f"<astrbot-chat {shown}></astrbot-chat>"
        )

    return astrbot_chat
