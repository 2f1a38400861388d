"""Messages and files that a tool sends during a turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peewee

from ...config.settings import Settings
from ...db import deliveries, messages
from ...db.attachments import AttachmentRow
from ...db.store import Store
from ...errors import ApiError, AstrBotError, StorageError, ToolError
from ...files.attachments import Attachments, Readable
from ...files.incoming import Sender
from ...messages import Segment, parse_im_message
from ..pushes import PushedMessage, Pusher, resolve_stored
from .turn import OpenTurn, Origin


class Speaker:
    """Sends the user of a turn a message besides the reply.

    :param wake_outbox: Called after a message to a messenger is stored, to wake its sender.
    """

    def __init__(
        self, settings: Settings, store: Store, pusher: Pusher, wake_outbox: Callable[[], None]
    ) -> None:
        self._wake_outbox = wake_outbox
        self._settings = settings
        self._store = store
        self._pusher = pusher

    def say(self, turn: OpenTurn, message: Any, *, choices: Sequence[tuple[str, str]] = ()) -> None:
        """Store a message in the turn's session and show it.

        :param message: A string, or a list of segments as ``im/message`` accepts.
        :param choices: Answers that a messenger may show as buttons, by label.
        :raises ToolError: if the message is invalid or cannot be stored. The model gets the error.
        """
        try:
            segments = parse_im_message(
                message,
                max_chars=self._settings.max_message_chars,
                max_segments=self._settings.max_segments,
            )
            if turn.request.origin is None:
                self._push(turn, segments)
            else:
                self._deliver(turn, turn.request.origin, segments, choices)
        except (ApiError, StorageError) as error:
            raise ToolError(str(error)) from error

    def _push(self, turn: OpenTurn, segments: list[Segment]) -> None:
        """Store the message and show it in the session's open streams."""

        def job(db: peewee.Database) -> PushedMessage:
            pushed = self._pusher.push(
                db, username=turn.request.creator, session_id=turn.session.session_id,
                segments=segments, guard=turn.request.guard, payer=turn.request.payer,
            )  # fmt: skip
            self._pusher.quotas.check_at_end(db, turn.request.payer)
            return pushed

        self._pusher.announce(self._store.write(job, quick=True))

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
            messages.add_message(
                db, turn.session.id, origin.bot_id, messages.BOT, content, None, pushed=True,
                payer=turn.request.payer, attachments=[row.id for row in rows],
            )  # fmt: skip
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
    """Collects files from tools in any thread, for the run's own thread.

    :param sender: The turn's key, as whose uploads they count, or None.
    """

    def __init__(self, attachments: Attachments, sender: Sender | None) -> None:
        self._attachments = attachments
        self._sender = sender
        self._sent: deque[AttachmentRow] = deque()

    def send(self, source: Path | str | bytes, filename: str) -> str:
        """Store a file and show it; return its attachment id.

        :raises ToolError: if the file cannot be read or stored. The model gets the error.
        """
        content = Path(source) if isinstance(source, str) else source
        try:
            row = self._attachments.store_bytes(content, filename, self._sender)
        except (AstrBotError, OSError) as error:
            raise ToolError(f"the file {filename} could not be sent: {error}") from error
        self._sent.append(row)
        return row.attachment_id

    def receive(self, stream: Readable, filename: str) -> None:
        """Store a streamed file within the limits of uploads, and show it.

        :raises AstrBotError: if it is too large or cannot be stored.
        """
        self._sent.append(self._attachments.receive(stream, filename, self._sender))

    @property
    def holds_files(self) -> bool:
        """Whether a file was sent since the last :meth:`take_all`."""
        return bool(self._sent)

    def take_all(self) -> list[AttachmentRow]:
        """Return the files sent since the last call, in order."""
        taken = []
        while self._sent:
            taken.append(self._sent.popleft())
        return taken
