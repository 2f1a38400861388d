"""The template function ``{{ astrbot_chat() }}`` for applications that embed the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from flask import request
from markupsafe import Markup, escape


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
