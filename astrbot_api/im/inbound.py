"""Starts exactly one turn for each incoming message of a messenger."""

from __future__ import annotations

import io
import logging
import threading
import time
from contextlib import closing

import peewee

from ..chat.turns.opening import DuplicateEvent
from ..chat.turns.running import Runs
from ..chat.turns.turn import OpenTurn, Origin, TurnRequest
from ..config.settings import Settings
from ..db import deliveries, inbound
from ..db.store import Store
from ..deliveries.http import PlatformError
from ..deliveries.outbox import Outbox
from ..errors import ApiError, refuse
from ..files.attachments import Attachments
from ..files.storage.protocol import BlobReader
from ..messages import Media, Plain, Reply, Segment
from ..worker.lease import WorkerLease
from .adapter import Adapter, Bot, InboundRequest, InFile, InMessage, Reception, Target
from .bots import Bots
from .pending import PendingMessages
from .umo import Umo

log = logging.getLogger(__name__)

#: Maximum number of files that are fetched for one message.
_MAX_FILES = 10

#: Interval between typing indicators, and the maximum time they are sent, in seconds.
_TYPING_EVERY_S = 4.0
_TYPING_LIMIT_S = 600.0

#: Interval between checks whether a turn has ended, in seconds.
_CHECK_S = 0.25

#: With this many messages waiting for a target, further refusals are not reported. Otherwise
#: a flood of messages would fill the outbox.
_MAX_REFUSALS = 3

#: Temporary failures. The platform retries after them.
_TEMPORARY_CODES = ("server_busy", "shutting_down", "storage_error")


class Inbound:
    """Processes incoming messages. Redelivered messages are ignored."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        bots: Bots,
        runs: Runs,
        attachments: Attachments,
        outbox: Outbox,
        lease: WorkerLease,
    ) -> None:
        self._settings = settings
        self._store = store
        self._bots = bots
        self._runs = runs
        self._attachments = attachments
        self._outbox = outbox
        self.pending = PendingMessages(store, lease, self._begin_pending)

    def receive(self, bot_id: str, request: InboundRequest) -> Reception:
        """Process a platform's request and return the response to it.

        :raises ApiError: ``bot_not_found``, or a temporary error after which the platform retries.
        :raises BadSignature: if the request's signature is not valid.
        """
        bot, adapter = self._bots.get_running(bot_id)
        reception = _read(adapter, bot_id, request)
        for message in reception.messages:
            self.take(bot, adapter, message)
        return reception

    def take(self, bot: Bot, adapter: Adapter, message: InMessage) -> None:
        """Start the turn that answers a message, unless it has one or needs none.

        If files must be fetched first, or this worker is full or stopping, the message is only
        stored. Some platforms do not redeliver a message after an error.

        :raises ApiError: if the message is not stored. The platform should redeliver it.
        """
        is_asked = message.addressed or message.album
        if not is_asked or not (_has_content(message) or message.more):
            return
        if not _is_allowed(bot, message):
            log.info(
                "the bot %s does not answer %s in %s: neither is in its allow",
                bot.id, message.sender_id, message.session_id,
            )  # fmt: skip
            return
        umo = _name_conversation(bot, message)
        with self._store.read() as db:
            if inbound.is_known(db, bot.id, message.event_id):
                return
            # A message with its own files cannot wait: waiting ones are stored without bytes.
            others_wait = not message.files and inbound.list_waiting(db, umo, 1)
        is_whole = not message.more and not message.album
        if not is_whole or others_wait or any(file.data is None for file in message.files):
            self._keep(bot, message)
            return
        try:
            self._answer(bot, adapter, message)
        except ApiError as error:
            if message.files:  # their bytes cannot be stored
                raise
            log.warning("a message to the bot %s will be answered later: %s", bot.id, error)
            self._keep(bot, message)

    def _keep(self, bot: Bot, message: InMessage) -> None:
        """Store a message for later, or refuse it if too many of its conversation wait.

        One conversation must not delay the others: a bot is polled for all of them.
        """
        origin = _make_origin(bot, message)
        try:
            self.pending.add(bot.id, origin.umo, message)
        except ApiError as error:
            if message.addressed:  # no other part of an album in a group
                self._refuse(origin, error)

    def _begin_pending(self, bot_id: str, message: InMessage) -> None:
        if not message.addressed:
            return
        bot, adapter = self._bots.get_running(bot_id)
        with self._store.read() as db:
            if inbound.is_known(db, bot_id, message.event_id):
                return
        self._answer(bot, adapter, message)

    def _answer(self, bot: Bot, adapter: Adapter, message: InMessage) -> None:
        """Fetch what a message refers to, and start its turn."""
        if message.more:
            message = _complete(adapter, message)
            if not _has_content(message):
                return
        files = [self._fetch(adapter, file) for file in message.files[:_MAX_FILES]]
        if len(message.files) > _MAX_FILES:
            files.append(
                Plain(
                    f"\n[Only the first {_MAX_FILES} of {len(message.files)} files were received.]"
                )
            )
        self._begin(bot, adapter, message, files)

    def _fetch(self, adapter: Adapter, file: InFile) -> Segment:
        """Store a file as an attachment. On failure, return a text that names the file."""
        try:
            reader: BlobReader
            if file.data is not None:
                reader = io.BytesIO(file.data)
            else:
                reader = adapter.open_file(file.source)
            with closing(reader):
                row = self._attachments.receive(reader, file.filename)
        except Exception as error:  # an adapter may also stumble over a platform's answer
            log.warning("a file of a message could not be fetched: %r", error)
            return Plain(f"\n[The file {_clean(file.filename)[:200]} could not be received.]")
        return Media(row.attachment_id, row.type, row.name)

    def _begin(self, bot: Bot, adapter: Adapter, message: InMessage, files: list[Segment]) -> None:
        origin = _make_origin(bot, message)
        request = TurnRequest(
            # The bot's id is a prefix, so a platform's user id cannot equal a local username.
            username=f"{bot.id}:{message.sender_id}",
            segments=self._to_segments(message, files),
            session_id=origin.umo,
            shown_session_id=origin.umo,
            streaming=False,
            config_id=bot.config,
            may_wait=True,
            origin=origin,
        )
        try:
            turn = self._runs.start(request)
        except DuplicateEvent:
            return
        except ApiError as error:
            if error.code in _TEMPORARY_CODES:
                raise
            self._refuse(origin, error)
            return
        if "typing" in adapter.capabilities:
            target = Target(message.message_type, message.session_id)
            threading.Thread(
                target=_show_typing, args=(adapter, target, turn), name="typing", daemon=True
            ).start()

    def _to_segments(self, message: InMessage, files: list[Segment]) -> list[Segment]:
        segments: list[Segment] = []
        max_chars = self._settings.max_message_chars
        text, quoted = _clean(message.text).strip(), _clean(message.quoted or "")
        if not text and not files:  # the message is about the quoted one
            text, quoted = quoted, ""
        if quoted:
            segments.append(Reply(message.platform_message_id or "", quoted[:max_chars]))
        if len(text) > max_chars:
            text = (
                f"{text[:max_chars]}\n"
                f"[The rest of the message was cut off: it has more than {max_chars} characters.]"
            )
        if text:
            segments.append(Plain(text))
        return segments + files

    def _refuse(self, origin: Origin, error: ApiError) -> None:
        """Reply to a message that cannot have a turn with the reason."""
        log.warning("a message to the bot %s was refused: %s", origin.bot_id, error.message)

        def job(db: peewee.Database) -> None:
            if inbound.add_event(
                db, origin.bot_id, origin.event_id,
                run_id=None, umo=origin.umo, reply_to=origin.reply_to,
            ) and deliveries.count_line(db, origin.umo, _MAX_REFUSALS) < _MAX_REFUSALS:  # fmt: skip
                deliveries.add_delivery(
                    db, platform_id=origin.bot_id, target=origin.umo,
                    content=[{"type": "plain", "text": error.message}], reply_to=origin.reply_to,
                )  # fmt: skip

        self._store.write(job)
        self._outbox.wake()


def _read(adapter: Adapter, bot_id: str, request: InboundRequest) -> Reception:
    """Parse a request with the adapter. Its content is not trusted."""
    try:
        return adapter.receive(request)
    except (PlatformError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("the hook of the bot %s cannot parse a request: %r", bot_id, error)
        message = "The request does not have this messenger's format"
        raise refuse(message) from error


def _name_conversation(bot: Bot, message: InMessage) -> str:
    return str(Umo(bot.id, message.message_type, message.session_id))


def _make_origin(bot: Bot, message: InMessage) -> Origin:
    return Origin(
        bot_id=bot.id,
        platform=bot.type,
        event_id=message.event_id,
        umo=_name_conversation(bot, message),
        sender_name=_clean(message.sender_name).strip()[:255] or message.sender_id,
        is_group=message.message_type == "GroupMessage",
        reply_to=message.platform_message_id,
    )


def _has_content(message: InMessage) -> bool:
    return bool(message.text.strip() or message.files or message.quoted)


def _complete(adapter: Adapter, message: InMessage) -> InMessage:
    """Fetch the messages that a message quotes, or return it unchanged if that fails."""
    try:
        return adapter.complete(message)
    except Exception as error:  # as in _fetch
        log.warning("the quoted message could not be fetched: %r", error)
        return message


def _is_allowed(bot: Bot, message: InMessage) -> bool:
    if not bot.allow:
        return True
    # A topic or thread belongs to its group.
    group = message.session_id.partition("#")[0]
    ids = (message.sender_id, message.session_id, group)
    umos = (f"{message.message_type}:{one}" for one in (message.session_id, group))
    # /sid shows the ids with the bot's, and conversations as UMOs.
    shown = (f"{bot.id}:{one}" for one in (message.sender_id, *umos))
    return not bot.allow.isdisjoint((*ids, *shown))


def _show_typing(adapter: Adapter, target: Target, turn: OpenTurn) -> None:
    """Send typing indicators until the turn ends."""
    ends_at = time.monotonic() + _TYPING_LIMIT_S
    shown_at = float("-inf")
    while not turn.log.closed and time.monotonic() < ends_at:
        if time.monotonic() - shown_at >= _TYPING_EVERY_S:
            shown_at = time.monotonic()
            try:
                adapter.show_typing(target)
            except Exception as error:
                # A failed typing indicator has no consequences.
                log.debug("no typing indicator: %r", error)
        time.sleep(_CHECK_S)


def _clean(text: str) -> str:
    """Return a text without characters that databases reject."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
