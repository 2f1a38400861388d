"""One attempt to deliver: stored segments become what an adapter is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..attachments import Attachments
from ..db.attachments import AttachmentRow, find_attachments
from ..db.deliveries import DeliveryRow
from ..db.store import Store
from ..errors import ApiError, AstrBotError, StorageError
from ..messages import MEDIA_TYPES
from .adapter import OutFile, OutMessage, Sent, Target
from .bots import Bots
from .http import PlatformError
from .umo import parse_umo

#: How long a confirmed part may wait for a database that takes nothing.
_NOTE_TRIES = 30


class ClaimLost(AstrBotError):
    """Another worker has the delivery: this one must send no more of it."""


@dataclass(slots=True)
class Confirmed:
    """What the platform has confirmed of a delivery so far."""

    parts: int
    chars: int
    platform_ids: list[str]

    def add(self, sent: Sent) -> None:
        """Add what one more answer of the platform confirmed."""
        if sent.parts:
            self.parts += sent.parts
            self.chars = 0
        self.chars += sent.chars
        self.platform_ids += sent.platform_ids


#: Stores what is confirmed; False: the claim is lost.
Note = Callable[[Confirmed], bool]


class Sender:
    """Sends deliveries through the bots' adapters."""

    def __init__(self, store: Store, bots: Bots, attachments: Attachments) -> None:
        self._store = store
        self._bots = bots
        self._attachments = attachments

    def send(self, delivery: DeliveryRow, confirmed: Confirmed, note: Note) -> None:
        """Send what the platform has not confirmed yet.

        :param confirmed: Grows with each answer of the platform.
        :raises PlatformError: when the platform could not or would not.
        :raises ClaimLost: when another worker has the delivery meanwhile.
        """
        umo = parse_umo(delivery.target)
        found = self._bots.find_running(delivery.platform_id)
        if found is None:
            raise PlatformError(f"The bot {delivery.platform_id} is not running.", retryable=True)
        parts = self._build_parts(delivery)
        if not parts:
            return
        # What is left of a message answers nothing any more: its beginning did.
        begun = bool(delivery.sent_parts or delivery.sent_chars)
        target = Target(umo.message_type, umo.session_id, None if begun else delivery.reply_to)

        def progress(sent: Sent) -> None:
            confirmed.add(sent)
            keep_trying(note, confirmed)

        before = len(confirmed.platform_ids)
        receipt = found[1].send(target, OutMessage(parts, delivery.delivery_id), progress=progress)
        if len(confirmed.platform_ids) == before:
            confirmed.platform_ids += receipt.platform_ids

    def _build_parts(self, delivery: DeliveryRow) -> tuple[str | OutFile, ...]:
        segments: Sequence[dict[str, Any]] = delivery.content[delivery.sent_parts :]
        ids = [one["attachment_id"] for one in segments if one["type"] in MEDIA_TYPES]
        with self._store.read() as db:
            rows = find_attachments(db, ids)
        parts: list[str | OutFile] = []
        for at, segment in enumerate(segments):
            if segment["type"] in MEDIA_TYPES:
                row = rows.get(segment["attachment_id"])
                if row is None:
                    raise PlatformError("An attachment of the message was deleted meanwhile.")
                parts.append(self._to_file(row))
            else:
                text = segment["text"]
                parts.append(text[delivery.sent_chars :] if at == 0 else text)
        return tuple(parts)

    def _to_file(self, row: AttachmentRow) -> OutFile:
        return OutFile(
            type=row.type,  # type: ignore[arg-type]  # the four, by the table's own check
            filename=row.name,
            mime=row.mime,
            size_bytes=row.size_bytes,
            open=lambda: self._attachments.open_reader(row, 0, row.size_bytes),
        )


def keep_trying(note: Note, confirmed: Confirmed) -> None:
    """Store what is confirmed, however busy the database is just now.

    :raises ClaimLost: when another worker has the delivery.
    :raises StorageError: when it could not be stored for half a minute.
    """
    for left in range(_NOTE_TRIES, -1, -1):
        try:
            kept = note(replace(confirmed, platform_ids=list(confirmed.platform_ids)))
        except StorageError:
            if not left:
                raise
            time.sleep(1.0)
            continue
        if not kept:
            raise ClaimLost("another worker has this delivery")
        return


def to_platform_error(error: Exception) -> PlatformError:
    """Return what a failed attempt is told as."""
    if isinstance(error, PlatformError):
        return error
    if isinstance(error, ApiError):
        return PlatformError(error.message)
    if isinstance(error, (StorageError, OSError)):
        return PlatformError("An attachment of the message cannot be read.", retryable=True)
    return PlatformError("The adapter failed; the server's log has the details.", retryable=True)
