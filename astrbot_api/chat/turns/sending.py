"""Messages that a tool sends in the middle of a turn: each by itself, at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peewee

from ...config.settings import Settings
from ...db import deliveries, messages
from ...db.attachments import AttachmentRow, link_attachments
from ...db.store import Store
from ...errors import ApiError, AstrBotError, StorageError, ToolError
from ...files.attachments import Attachments, Readable
from ...messages import Segment, parse_im_message
from ..pushing import Pusher, resolve_stored
from .turn import OpenTurn, Origin


class Speaker:
    """Sends the user of a turn a message that is no part of the reply.

    :param wake_outbox: Called when a message to a messenger is stored and is to be sent.
    """

    def __init__(
        self, settings: Settings, store: Store, pusher: Pusher, wake_outbox: Callable[[], None]
    ) -> None:
        self._wake_outbox = wake_outbox
        self._settings = settings
        self._store = store
        self._pusher = pusher

    def say(self, turn: OpenTurn, message: Any, *, choices: Sequence[tuple[str, str]] = ()) -> None:
        """Store a message in the turn's session and have it shown.

        :param message: A string, or a list of segments as ``im/message`` takes them.
        :param choices: Answers that a messenger may show as buttons: the words on each, and the
            message that it sends.
        :raises ToolError: when it is wrong or cannot be kept, for the model.
        """
        try:
            segments = parse_im_message(
                message,
                max_chars=self._settings.max_message_chars,
                max_segments=self._settings.max_segments,
            )
            if turn.request.origin is None:
                self._pusher.push(
                    username=turn.request.creator,
                    session_id=turn.session.session_id,
                    segments=segments,
                    guard=turn.request.guard,
                    payer=turn.request.payer,
                )
            else:
                self._deliver(turn, turn.request.origin, segments, choices)
        except (ApiError, StorageError) as error:
            raise ToolError(str(error)) from error

    def _deliver(
        self,
        turn: OpenTurn,
        origin: Origin,
        segments: list[Segment],
        choices: Sequence[tuple[str, str]],
    ) -> None:
        """Store the message and its delivery in one transaction."""

        def job(db: peewee.Database) -> None:
            resolved, rows = resolve_stored(db, segments, turn.request.guard)
            wire = [one.to_wire() for one in resolved]
            content = {"type": "bot", "message": wire}
            number, _ = messages.add_message(
                db, turn.session.id, origin.bot_id, messages.BOT, content, None, pushed=True,
                payer=turn.request.payer,
            )  # fmt: skip
            link_attachments(db, number, [row.id for row in rows])
            deliveries.add_delivery(
                db, platform_id=origin.bot_id, target=origin.umo,
                content=[*wire, {"type": "choices", "choices": choices}] if choices else wire,
                reply_to=origin.reply_to, traceparent=turn.span.to_traceparent(),
                payer=turn.request.payer,
            )  # fmt: skip
            self._pusher.quotas.check_at_end(db, turn.request.payer)

        self._store.write(job)
        self._wake_outbox()


class FileOutbox:
    """Takes files from tools, whichever thread they run in, for the run's own thread.

    :param key_id: The key whose uploads they count as.
    :param username: The only one that the turn's key may speak as, if there is one.
    """

    def __init__(
        self, attachments: Attachments, key_id: str | None, username: str | None = None
    ) -> None:
        self._username = username
        self._attachments = attachments
        self._key_id = key_id
        self._sent: deque[AttachmentRow] = deque()

    def send(self, source: Path | str | bytes, filename: str) -> str:
        """Store a file and have it shown; return its attachment id.

        :param source: A path, or the bytes themselves.
        :raises ToolError: when it cannot be read or stored, for the model.
        """
        content = Path(source) if isinstance(source, str) else source
        try:
            row = self._attachments.store_bytes(content, filename, self._key_id, self._username)
        except (AstrBotError, OSError) as error:
            raise ToolError(f"the file {filename} could not be sent: {error}") from error
        self._sent.append(row)
        return row.attachment_id

    def receive(self, stream: Readable, filename: str) -> None:
        """Store a file that comes in pieces, within the limits of uploads, and have it shown.

        :raises AstrBotError: when it is too large or cannot be stored.
        """
        self._sent.append(
            self._attachments.receive(stream, filename, self._key_id, username=self._username)
        )

    @property
    def holds_files(self) -> bool:
        """Whether something was sent since the last :meth:`take_all`."""
        return bool(self._sent)

    def take_all(self) -> list[AttachmentRow]:
        """Return what was sent since the last call, in order."""
        taken = []
        while self._sent:
            taken.append(self._sent.popleft())
        return taken
