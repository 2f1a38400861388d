"""Send-only adapter for the services that Apprise supports, each given by its URL.

Source: https://github.com/caronc/apprise
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import marshmallow as ma
from apprise import (
    Apprise,
    AppriseAsset,
    AppriseAttachment,
    NotifyFormat,
    OverflowMode,
    PersistentStoreMode,
)
from apprise.attachment.memory import AttachMemory
from apprise.plugins.base import NotifyBase

from ..config.secrets import Secret
from ..deliveries.http import PlatformError, PlatformHttp
from ..errors import SettingsError
from .adapter import Bot, OutFile, Target
from .markdown import read_markdown
from .piecewise import PiecewiseAdapter, PiecewiseSettings, check_size
from .rich_text import BOLD, CODE, ITALIC, LINK, PRE, QUOTE, STRIKE, RichText, iter_pieces

#: The session whose messages go to ``url``.
_DEFAULT_SESSION = "default"

#: Maximum length of a piece, and the minimum used for services with a smaller limit, in
#: UTF-16 code units.
_MAX_TEXT_UNITS = 30_000
_MIN_TEXT_UNITS = 200

#: Apprise logs the HTTP status of a service in this form.
_STATUS = re.compile(r"error=(\d{3})\b")


class SettingsSchema(PiecewiseSettings):
    """Settings of a bot of type ``apprise``."""

    url = Secret(load_default="")
    urls = ma.fields.Dict(
        keys=ma.fields.String(
            validate=ma.validate.Regexp(r"[\w.-]{1,100}\Z", error="must be letters, digits, _ . -")
        ),
        values=Secret(),
        load_default=dict,
    )
    max_file_mb = ma.fields.Integer(load_default=10, validate=ma.validate.Range(1, 100))

    @ma.validates_schema
    def check_urls(self, data: dict[str, Any], **_: Any) -> None:
        """Require at least one target."""
        if not data.get("url") and not data.get("urls"):
            raise ma.ValidationError("required: the URL of a service, or a table [bot.urls]", "url")


def build(bot: Bot, http: PlatformHttp) -> AppriseAdapter:
    """Return the adapter of a bot, without any request.

    :raises SettingsError: if Apprise does not support a URL.
    """
    return AppriseAdapter(bot.settings)


class AppriseAdapter(PiecewiseAdapter):
    """Notification services. The session of a UMO selects one of them.

    A session has only one service. With several, a failure of one would repeat the message
    to the others.
    """

    type = "apprise"
    capabilities = frozenset({"text", "image", "record", "video", "file"})

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        # A redirect would send the secrets of a URL to another host. Nothing is written to
        # disk. Apprise shares an asset among the objects it creates.
        self._asset = AppriseAsset(
            http_redirects=False, async_mode=False, storage_mode=PersistentStoreMode.MEMORY
        )
        self._urls: dict[str, str] = dict(settings["urls"])
        if settings["url"]:
            self._urls.setdefault(_DEFAULT_SESSION, settings["url"])
        for name, url in self._urls.items():
            if self._make_service(url) is None:
                raise SettingsError(
                    f"Apprise does not support the URL of {name}: "
                    "see https://github.com/caronc/apprise/wiki"
                )

    def _find_address(self, target: Target) -> NotifyBase:
        url = self._urls.get(target.session_id)
        if url is None:
            names = ", ".join(sorted(self._urls))
            raise PlatformError(f"The bot has no such target. Its sessions are: {names}.")
        service = self._make_service(url)
        assert service is not None  # __init__ has checked every URL
        return service

    def _count_room(self, service: NotifyBase) -> int:
        return max(_MIN_TEXT_UNITS, min(_MAX_TEXT_UNITS, int(service.body_maxlen)))

    def _send_text(self, service: NotifyBase, text: str) -> Sequence[str]:
        self._notify(service, text)
        return ()

    def _send_file(self, service: NotifyBase, file: OutFile) -> Sequence[str]:
        if not service.attachment_support:
            self._notify(service, f"[{file.filename}]", NotifyFormat.TEXT)
            return ()
        check_size(file, self._settings["max_file_mb"] * 1024 * 1024)
        content = AttachMemory(
            content=b"".join(file.iter_bytes()), name=file.filename, mimetype=file.mime
        )
        self._notify(service, file.filename, NotifyFormat.TEXT, AppriseAttachment(content))
        return ()

    def _notify(
        self,
        service: NotifyBase,
        body: str,
        body_format: str = "",
        attach: AppriseAttachment | None = None,
    ) -> None:
        """Send one notification.

        :raises PlatformError: with our own text, because Apprise's may contain secrets of the URL.
        """
        if not body_format:
            plain = self._settings["format"] == "plain"
            body_format = NotifyFormat.TEXT if plain else NotifyFormat.MARKDOWN
        if body_format == NotifyFormat.MARKDOWN and service.notify_format == NotifyFormat.HTML:
            # Apprise's own HTML conversion takes minutes for some texts.
            body, body_format = write_html(read_markdown(body)), NotifyFormat.HTML
        words: list[str] = []
        one = Apprise(asset=self._asset)
        one.add(service)
        done = one.notify(
            body=body, body_format=body_format, attach=attach,
            log_callback=lambda entry, _: words.append(entry.message),
            log_level=logging.WARNING,
        )  # fmt: skip
        if not done:
            raise _explain(service.service_name, " ".join(words))

    def _make_service(self, url: str) -> NotifyBase | None:
        service = Apprise.instantiate(url, asset=self._asset)
        if service is not None:
            # For text that exceeds the limit after its conversion.
            service.overflow_mode = OverflowMode.SPLIT
        return service


#: HTML of each kind of span.
_TAGS = {
    BOLD: "b", ITALIC: "i", STRIKE: "s", CODE: "code", PRE: "pre", LINK: "a", QUOTE: "blockquote",
}  # fmt: skip


def write_html(rich: RichText) -> str:
    """Return a text with its formatting as HTML."""
    pieces = []
    in_pre = 0
    for ending, beginning, text in iter_pieces(rich.text, rich.spans):
        pieces += [f"</{_TAGS[one.kind]}>" for one in ending]
        for one in beginning:
            address = f' href="{html.escape(one.value)}"' if one.kind == LINK else ""
            pieces.append(f"<{_TAGS[one.kind]}{address}>")
        in_pre += sum(one.kind == PRE for one in beginning) - sum(one.kind == PRE for one in ending)
        piece = html.escape(text, quote=False)
        pieces.append(piece if in_pre else piece.replace("\n", "<br>\n"))
    return "".join(pieces)


def _explain(name: Any, words: str) -> PlatformError:
    found = _STATUS.search(words)
    if found is not None:
        status = int(found[1])
        return PlatformError(
            f"{name} answered {status}.", retryable=status >= 500 or status in (408, 429)
        )
    if "onnection error" in words or "I/O" in words:
        return PlatformError(f"{name} cannot be reached.", retryable=True)
    return PlatformError(f"{name} rejected the message. See the server's log for the reason.")
