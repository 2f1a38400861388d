"""``{{ astrbot_chat() }}`` for the templates of an application that embeds the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from flask import request
from markupsafe import Markup, escape


def make_chat_macro(url_prefix: str) -> Callable[..., Markup]:
    """Return the function that templates call.

    :param url_prefix: Where the API is in the application.
    """

    def astrbot_chat(
        *, nonce: str = "", suggestions: Sequence[str] = (), **attributes: object
    ) -> Markup:
        """Return the script and the element of the chat.

        :param nonce: Of the page's content security policy, where it has one.
        :param suggestions: Messages to choose from.
        :param attributes: Those of the element, with ``_`` for ``-``; None and False leave one out.
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
