"""Base class of adapters that send a message in several pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import marshmallow as ma

from ..deliveries.attempts import Progress, Sent
from ..deliveries.http import PlatformError
from ..runtime.threads import run_native
from .adapter import Adapter, Choice, OutFile, OutMessage, Receipt, Target
from .splitting import split_markdown


class PiecewiseSettings(ma.Schema):
    """Settings of bots that send formatted text."""

    format = ma.fields.String(
        load_default="markdown", validate=ma.validate.OneOf(("markdown", "plain"))
    )


class PiecewiseAdapter(Adapter):
    """Sends texts in pieces of limited length, and each file as a separate message.

    An address is the adapter's own form of a target. It is created once for all pieces.
    """

    capabilities = frozenset({"text", "image", "record", "video", "file", "group", "reply"})
    #: Maximum length of a piece, in UTF-16 code units.
    max_text_units = 0

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Send each part, and report each piece that the platform confirmed."""
        address = self._find_address(target)
        ids: list[str] = []

        def report(sent: Sequence[str], parts: int, chars: int = 0) -> None:
            ids.extend(sent)
            progress(Sent(parts, chars, tuple(sent)))

        for at, part in enumerate(message.parts, 1):
            if isinstance(part, OutFile):
                report(self._send_file(address, part), 1)
                continue
            # A text of two million characters takes seconds.
            pieces = run_native(split_markdown, part, self._count_room(address))
            for piece in pieces[:-1]:
                report(self._send_text(address, piece.text), 0, piece.chars)
            choices = message.choices if at == len(message.parts) else ()
            report(self._send_choices(address, pieces[-1].text, choices) if pieces else (), 1)
        return Receipt(tuple(ids))

    def _count_room(self, address: Any) -> int:
        return self.max_text_units

    def _find_address(self, target: Target) -> Any:
        """Return the address of a target.

        :raises PlatformError: if the platform cannot have such a session.
        """
        raise NotImplementedError

    def _send_text(self, address: Any, text: str) -> Sequence[str]:
        """Send one piece of a text and return the platform's ids of it, if any."""
        raise NotImplementedError

    def _send_choices(self, address: Any, text: str, choices: Sequence[Choice]) -> Sequence[str]:
        """Send the last piece of a text with buttons below it, if there are choices."""
        return self._send_text(address, text)

    def _send_file(self, address: Any, file: OutFile) -> Sequence[str]:
        """Send a file and return the platform's ids of it, if any."""
        raise NotImplementedError


def check_size(file: OutFile, max_bytes: int, platform: str = "") -> None:
    """Check that a file is not too large, and not empty if the platform rejects empty files.

    :param platform: Name of the platform that has the limit, or empty for the bot's setting.
    :raises PlatformError: with the name of the file.
    """
    if file.size_bytes > max_bytes:
        bound = f"{platform} accepts at most {max_bytes}."
        if not platform:
            bound = f"this bot sends at most {max_bytes} (max_file_mb)."
        raise PlatformError(f"{file.filename} has {file.size_bytes} bytes; {bound}")
    if platform and not file.size_bytes:
        raise PlatformError(f"{file.filename} is empty; {platform} accepts no empty files.")
