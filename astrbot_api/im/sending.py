"""One delivery attempt: converts stored segments and passes them to the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..db.attachments import AttachmentRow, find_attachments
from ..db.deliveries import DeliveryRow
from ..db.store import Store
from ..deliveries.attempts import Confirmed, Note, Sent, store_progress
from ..deliveries.http import PlatformError
from ..files.attachments import Attachments
from ..messages import MEDIA_TYPES
from ..runtime.threads import run_native
from .adapter import Choice, OutFile, OutMessage, Target
from .bots import Bots
from .splitting import find_opening
from .umo import parse_umo

#: Type of a delivery's last segment if it contains the answers for the buttons.
_CHOICES = "choices"


class Sender:
    """Sends deliveries through the bots' adapters."""

    def __init__(self, store: Store, bots: Bots, attachments: Attachments) -> None:
        self._store = store
        self._bots = bots
        self._attachments = attachments

    def send(self, delivery: DeliveryRow, confirmed: Confirmed, note: Note) -> None:
        """Send the parts that the platform has not confirmed yet.

        :param confirmed: Updated after each confirmation of the platform.
        :raises PlatformError: if the platform failed or refused.
        :raises ClaimLost: if another worker took over the delivery.
        """
        umo = parse_umo(delivery.target)
        found = self._bots.find_running(delivery.platform_id)
        if found is None:
            raise PlatformError(f"The bot {delivery.platform_id} is not running.", retryable=True)
        parts, added = self._build_parts(delivery)
        if not parts:
            return
        # Only the beginning of a message is sent as a reply.
        begun = bool(delivery.sent_parts or delivery.sent_chars)
        target = Target(umo.message_type, umo.session_id, None if begun else delivery.reply_to)

        def progress(sent: Sent) -> None:
            nonlocal added
            confirmed.add(replace(sent, chars=max(sent.chars - added, 0)))
            added = 0
            store_progress(note, confirmed)

        before = len(confirmed.platform_ids)
        message = OutMessage(parts, delivery.delivery_id, _list_choices(delivery))
        receipt = found[1].send(target, message, progress=progress)
        if len(confirmed.platform_ids) == before:
            confirmed.platform_ids += receipt.platform_ids

    def _build_parts(self, delivery: DeliveryRow) -> tuple[tuple[str | OutFile, ...], int]:
        """Return the unconfirmed parts, and the number of characters added before the first."""
        segments: Sequence[dict[str, Any]] = [
            one for one in delivery.content[delivery.sent_parts :] if one["type"] != _CHOICES
        ]
        ids = [one["attachment_id"] for one in segments if one["type"] in MEDIA_TYPES]
        with self._store.read() as db:
            rows = find_attachments(db, ids)
        parts: list[str | OutFile] = []
        opening = ""
        for at, segment in enumerate(segments):
            if segment["type"] in MEDIA_TYPES:
                row = rows.get(segment["attachment_id"])
                if row is None:
                    raise PlatformError("An attachment of the message was deleted before sending.")
                parts.append(self._to_file(row))
            elif at == 0 and delivery.sent_chars:
                opening = run_native(find_opening, segment["text"], delivery.sent_chars)
                parts.append(opening + segment["text"][delivery.sent_chars :])
            else:
                parts.append(segment["text"])
        return tuple(parts), len(opening)

    def _to_file(self, row: AttachmentRow) -> OutFile:
        return OutFile(
            type=row.type,  # type: ignore[arg-type]  # the table's check allows only these four
            filename=row.name,
            mime=row.mime,
            size_bytes=row.size_bytes,
            open=lambda: self._attachments.open_reader(row, 0, row.size_bytes),
        )


def _list_choices(delivery: DeliveryRow) -> tuple[Choice, ...]:
    last = delivery.content[-1]
    if last["type"] != _CHOICES:
        return ()
    return tuple(Choice(label, text) for label, text in last["choices"])
