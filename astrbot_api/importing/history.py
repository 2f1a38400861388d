"""Imports sessions and their messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..config.settings import Settings
from ..db import imported
from ..db.imported import SourceMessage, SourceSession
from ..db.messages import BOT
from ..db.sessions import find_session
from ..db.store import Store
from ..runtime.clock import now_us
from .messages import BAD_PART, drop_lone_results, read_content
from .report import Tally
from .source import Source
from .values import read_flag, read_text, read_time

#: Possible names of the column with a message's session. The recordings show its
#: position (third) but not its name.
_SESSION_COLUMNS = ("session_id", "user_id", "conversation_id")

#: Columns of a session, and of a message.
_OF_SESSION = (
    "session_id", "platform_id", "creator", "display_name", "is_group", "created_at", "updated_at",
)  # fmt: skip
_OF_MESSAGE = (
    "platform_id", "sender_id", "sender_name", "content", "llm_checkpoint_id", "created_at",
)  # fmt: skip

_CHECKPOINT_CHARS = 36

#: Source: rows of 4.29.3, which stores one before each answer over a WebSocket.
_EMPTY = "it is an empty message of the bot"

#: Maximum length of an imported name. In AstrBot, a name may contain a whole message.
_MAX_NAME_CHARS = 4096


@dataclass
class HistoryImport:
    """Imports sessions one by one, each with its messages in pages."""

    source: Source
    settings: Settings
    store: Store
    apply: bool
    sessions: Tally
    messages: Tally

    def __post_init__(self) -> None:
        find = self.source.find_table
        self._session_table = find("session_id", "creator", "platform_id")
        history = find("content", "sender_id", "platform_id", _SESSION_COLUMNS)
        self._history = history if history and history.is_numbered else None
        self._column = self._find_session_column()
        self.tables = [self._session_table, self._history]

    def run(self) -> None:
        """Import, or report what would be imported."""
        if self._history is None:
            self.messages.skip(
                "there is no table with id, content, sender_id, platform_id and a session"
            )
        if self._session_table is None:
            self.sessions.skip("there is no table with session_id, creator and platform_id")
        else:
            columns = map(self._session_table.find_column, _OF_SESSION)
            for page in self.source.read_rows(self._session_table, list(columns)):
                for row in page:
                    self._import_session(self._read_session(row), row[1])
        self._report_ownerless()

    def _read_session(self, row: tuple[Any, ...]) -> SourceSession:
        _, session_id, platform_id, creator, display_name, is_group, created_at, updated_at = row
        name, owner = read_text(session_id).strip(), read_text(creator).strip()
        stamp = read_time(created_at)
        if stamp is None:
            self.sessions.note("its time is not valid; the time of the import is used", name)
        created = now_us() if stamp is None else stamp
        updated = read_time(updated_at)
        return SourceSession(
            name,
            read_text(platform_id)[:255] or "webchat",
            owner,
            read_text(display_name)[:_MAX_NAME_CHARS] or None,
            int(read_flag(is_group)),
            created,
            created if updated is None else updated,
            stamp or 0,
        )

    def _find_fault(self, session: SourceSession) -> str:
        if not session.session_id or len(session.session_id) > self.settings.max_session_id_chars:
            return "its session_id is empty or longer than ASTRBOT_MAX_SESSION_ID_CHARS"
        if not session.creator:
            return "it has no owner (creator)"
        if len(session.creator) > self.settings.max_username_chars:
            return "its owner's name is longer than ASTRBOT_MAX_USERNAME_CHARS"
        return ""

    def _import_session(self, session: SourceSession, source_id: Any) -> None:
        """Import a session and its messages.

        :param source_id: The session's id in the source, to find its messages.
        """
        known, fault = self._find_target(session)
        number = known
        if known is None and not fault and self.apply:
            number = self.store.write(lambda db: imported.add_session(db, session))
            if number is None:
                fault = "a session with this id was just created here"
        if fault:
            self.sessions.skip(fault, session.session_id)
            self._skip_messages("its session was skipped", source_id)
            return
        if known is None:
            self.sessions.count_imported()
        else:
            self.sessions.count_present()
        self._import_messages(session, number, source_id)

    def _find_target(self, session: SourceSession) -> tuple[int | None, str]:
        """Return the session's number, or None if it is new, and the reason to skip it, if any."""
        if fault := self._find_fault(session):
            return None, fault
        with self.store.read() as db:
            item = imported.find_item(db, "session", session.session_id)
            here = find_session(db, session.session_id)
        if item is None:
            return None, "" if here is None else "a session with this id already exists here"
        if here is None or here.id != item.target:
            return None, "it was imported before and has since been deleted here"
        if here.creator != session.creator or item.stamp != session.stamp:
            return None, "another session with this id was imported before"
        return here.id, ""

    def _import_messages(self, session: SourceSession, number: int | None, source_id: Any) -> None:
        for page in self._read_messages(session, source_id):
            known: dict[int, int] = {}
            if number is not None:
                with self.store.read() as db:
                    known = imported.find_messages(db, number, [one.number for one in page])
            new = [one for one in page if one.number not in known]
            self.messages.count_present(len(page) - len(new))
            if new and self.apply and number is not None:
                self._add(number, page)
            else:
                self.messages.count_imported(len(new))

    def _add(self, number: int, page: list[SourceMessage]) -> None:
        count, missing = self.store.write(lambda db: imported.add_messages(db, number, page))
        self.messages.count_imported(count)
        for attachment_id in missing:
            self.messages.note("an attachment that it refers to was not imported", attachment_id)

    def _read_messages(
        self, session: SourceSession, source_id: Any
    ) -> Iterator[list[SourceMessage]]:
        """Yield pages of a session's messages, in order."""
        if self._history is None or self._column is None:
            return
        previous: SourceMessage | None = None
        clock = session.created_at
        where = (self._column, source_id)
        columns = list(map(self._history.find_column, _OF_MESSAGE))
        for rows in self.source.read_rows(self._history, columns, where=where):
            page = []
            for row in rows:
                message = self._read_message(row, previous, clock)
                if message is not None:
                    clock = message.created_at
                    page.append(message)
                    if message.part_of is None:
                        previous = message
            if page:
                yield page

    def _read_message(
        self, row: tuple[Any, ...], previous: SourceMessage | None, clock: int
    ) -> SourceMessage | None:
        number, platform_id, sender_id, sender_name, content, checkpoint, created_at = row
        name = f"row {number}"
        try:
            read = read_content(content, lambda what: self.messages.note(what, name))
        except ValueError as error:
            self.messages.skip(str(error), name)
            return None
        if read == {"type": "bot", "message": []}:
            self.messages.skip(_EMPTY, name)
            return None
        created = read_time(created_at)
        if created is None:
            self.messages.note("its time is not valid; the previous message's time is used", name)
            created = clock
        turn: str | None = read_text(checkpoint)
        if turn and len(turn) > _CHECKPOINT_CHARS:
            self.messages.note("its llm_checkpoint_id is too long and was removed", name)
            turn = None
        sender = read_text(sender_id) or (BOT if read["type"] == "bot" else "")
        part_of = None
        if _continues(previous, read, turn or None):
            part_of = previous.number if previous else None
            self.messages.note("it was joined to the bot's previous message of its turn", name)
        elif drop_lone_results(read):
            self.messages.note(BAD_PART, name)
        return SourceMessage(
            number, read_text(platform_id)[:255] or "webchat", sender,
            read_text(sender_name) or sender, read, turn or None, created, part_of,
        )  # fmt: skip

    def _find_session_column(self) -> str | None:
        """Return the column of the history that contains session ids."""
        table, sessions = self._history, self._session_table
        if table is None:
            return None
        there = [name for name in _SESSION_COLUMNS if name in table.columns]
        fits = [
            name
            for name in there
            if sessions and self.source.has_common_value(table, name, sessions, "session_id")
        ]
        column = (fits or there)[0]
        self.source.index_column(table, column)
        return column

    def _report_ownerless(self) -> None:
        """Report messages whose session has no row, because their user is unknown.

        Source: ``50-im-message.jsonl``: AstrBot creates no row when a message is pushed into an
        unknown session.
        """
        if self._history is None or self._column is None:
            return
        table = self._session_table
        known = set(self.source.list_values(table, "session_id")) if table else set()
        for session_id in self.source.list_values(self._history, self._column):
            if session_id not in known:
                self._skip_messages("its session has no row, so its owner is unknown", session_id)

    def _skip_messages(self, reason: str, source_id: Any) -> None:
        """Count the messages of a skipped session."""
        if self._history is not None and self._column is not None:
            pages = self.source.read_rows(self._history, (), where=(self._column, source_id))
            count = sum(len(page) for page in pages)
            if count:
                self.messages.skip(reason, read_text(source_id), count)


def _continues(previous: SourceMessage | None, content: dict[str, Any], turn: str | None) -> bool:
    """Return whether a bot's message continues the turn of the previous message.

    Source: ``string-streaming-false`` and ``into-open-stream-result``: in AstrBot, a turn can
    have several messages of the bot.
    """
    return (
        previous is not None
        and turn is not None
        and content["type"] == previous.content["type"] == "bot"
        and previous.llm_checkpoint_id == turn
    )
