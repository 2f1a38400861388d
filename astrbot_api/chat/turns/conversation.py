"""Build the model's input of a turn: system prompt, conversation and message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...agent.provider import ModelMessage, ModelOptions, Provider
from ...agent.steps import Resumption
from ...config.settings import Settings
from ...db import sessions
from ...db.attachments import AttachmentRow, find_attachments
from ...db.sessions import SessionRow
from ...db.store import Store
from ...errors import ApiError
from ...messages import Plain, Segment, plain_text
from ...runtime.memory import MemoryBudget, Reservation
from ..context.asides import Asker
from ..context.budget import cost
from ..context.history import Past, build_messages, fill_prompt
from ..context.media import MAX_SUPPLIED_CHARS, Content, MediaLimits, MediaReader, measure_files
from ..context.recent import RecentMessages
from ..context.summary import Summariser
from ..context.supplied import SuppliedContext, build_supplied
from ..context.thread import load_thread
from .turn import OpenTurn

#: End of a message without its files.
_NO_ROOM = "\n[Its files are not shown: those of later messages use up the space.]"


class TurnConversation:
    """Builds the messages of one turn, and adds pictures that its tools send.

    :param memory: Limits the memory for the files in them, which is in use until :meth:`release`.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        recent: RecentMessages,
        media: MediaReader,
        memory: MemoryBudget,
        turn: OpenTurn,
    ) -> None:
        self._store = store
        self._recent = recent
        self._media = media
        self._turn = turn
        self._limits = MediaLimits(
            turn.provider.modalities,
            turn.config.agent.file_tokens,
            settings.max_image_side_px,
            turn.config.transcription,
            turn.config.agent.video_frames,
        )
        self._reservation = Reservation(memory, turn.request.payer or "")
        self._files_bytes = 0
        #: Pictures sent by tools that the model has not received.
        self._pictures: list[AttachmentRow] = []
        #: Ids of pictures that the model received since the last checkpoint, by message.
        self._seen: list[list[str]] = []

    def build(
        self, options: ModelOptions, text: str, provider: Provider | None
    ) -> list[ModelMessage]:
        """Return the messages for the model, when this worker has room for their files.

        :param text: The user's text, after commands and plugins.
        :param provider: Summarises old turns, if the config asks for it.
        :raises ApiError: ``server_busy`` after some seconds without room.
        """
        built = self._build(options, text, provider)
        try:
            self._hold_files(built)
        except ApiError:
            del built  # a turn that waits must not hold its files
            self._reservation.reserve(self._files_bytes)
            built = self._build(options, text, provider)
        return built

    def release(self) -> None:
        """Release the memory for files."""
        self._reservation.resize(0)

    def _build(
        self, options: ModelOptions, text: str, provider: Provider | None
    ) -> list[ModelMessage]:
        turn = self._turn
        agent = turn.config.agent
        segments = replace_text(turn.request.segments, text)
        system_prompt = fill_prompt(
            agent.system_prompt,
            username=turn.request.sender_name,
            platform=turn.request.platform,
        )
        if turn.request.context is not None:
            wire = [one.to_wire() for one in segments]
            return self._build_supplied(turn.request.context, wire, system_prompt)
        summariser = None
        if agent.history == "summarise" and provider is not None:
            asker = Asker(provider, options, turn.request.counting_keys)
            summariser = Summariser(self._store, asker, agent.history_tokens)
        session = self._find_session()
        return build_messages(
            self._store,
            self._recent,
            Past(
                session.id,
                session.edition,
                session.context_after,
                turn.user_message,
                turn.checkpoint,
            ),
            segments=segments,
            render=lambda segments, quotes: self._media.render(
                segments, quotes, self._limits, turn.cancel
            ),
            system_prompt=system_prompt,
            budget=0 if turn.first else agent.history_tokens,
            sender_name=_group_name(turn),
            summariser=summariser,
        )

    def note_picture(self, row: AttachmentRow) -> None:
        """Keep a tool's picture until the results of the calls are sent."""
        self._pictures.append(row)

    def take_seen(self) -> list[list[str]]:
        """Return the ids of the pictures sent to the model since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def restore(self, pictures: Sequence[str]) -> None:
        """Restore pictures that another worker had not sent yet, by their ids."""
        self._pictures = self._find(pictures)

    def show_pictures(self) -> list[dict[str, Any]]:
        """Return the pictures of the last calls as a message, if the model reads images.

        :raises ApiError: ``server_busy``, if this worker has no room for them.
        """
        sent, self._pictures = self._pictures, []
        shown = self._render(sent)
        if shown:
            self._hold_files([{"role": "user", "content": shown}])
            self._seen.append([row.attachment_id for row in sent])
        return shown

    def unpack(self, at: Resumption | None) -> Resumption | None:
        """Return the agent's checkpoint with the bytes of its pictures.

        :raises ApiError: ``server_busy``, if this worker has no room for them.
        """
        if at is None:
            return None
        messages: list[ModelMessage] = []
        for message in at.messages:
            if "pictures" not in message:
                messages.append(message)
            elif shown := self._render(self._find(message["pictures"])):
                messages.append({"role": "user", "content": shown})
        self._hold_files(messages)
        return replace(at, messages=messages)

    def _hold_files(self, messages: Sequence[ModelMessage]) -> None:
        self._files_bytes += measure_files(messages)
        self._reservation.resize(self._files_bytes)

    def _build_supplied(
        self, context: SuppliedContext, wire: list[dict[str, Any]], system_prompt: str
    ) -> list[ModelMessage]:
        """Return the caller's conversation, after the thread that it continues."""
        budget = self._turn.config.agent.history_tokens

        carried = 0

        def render(segments: Sequence[dict[str, Any]]) -> Content:
            nonlocal carried
            if carried >= MAX_SUPPLIED_CHARS:
                return plain_text(list(segments)) + _NO_ROOM
            content = self._media.render(segments, (), self._limits, self._turn.cancel)
            carried += measure_files([{"role": "user", "content": content}])
            return content

        content, past = render(wire), list[ModelMessage]()
        if context.previous is not None:
            said, past = load_thread(self._store, context.previous, render, budget)
            instructions = "\n\n".join(filter(None, [*said, context.instructions]))
            context = replace(context, instructions=instructions)
        return build_supplied(
            context, content,
            system_prompt=system_prompt, budget=budget - cost(past), past=past, render=render,
        )  # fmt: skip

    def _find_session(self) -> SessionRow:
        """Return the session as it is now: an earlier turn may have run ``/reset``."""
        turn = self._turn
        if not turn.ahead:
            return turn.session
        with self._store.read() as db:
            return sessions.find_session(db, turn.session.session_id) or turn.session

    def _find(self, ids: Sequence[str]) -> list[AttachmentRow]:
        if not ids:
            return []
        with self._store.read() as db:
            return list(find_attachments(db, ids).values())

    def _render(self, sent: Sequence[AttachmentRow]) -> list[dict[str, Any]]:
        if not sent or "image" not in self._turn.provider.modalities:
            return []
        segments = [
            {"type": "plain", "text": "[The tools have sent:]"},
            *({"type": "image", "attachment_id": row.attachment_id} for row in sent),
        ]
        content = self._media.render(segments, (), self._limits, self._turn.cancel)
        return content if isinstance(content, list) else []


def _group_name(turn: OpenTurn) -> str | None:
    """Return the speaker's name for the model in a group, or None in a private chat."""
    origin = turn.request.origin
    return origin.sender_name if origin and origin.is_group else None


def replace_text(segments: Sequence[Segment], text: str) -> Sequence[Segment]:
    """Return segments with another text, or the same segments if the text is equal."""
    if text == plain_text([one.to_wire() for one in segments]):
        return segments
    return [Plain(text), *(one for one in segments if not isinstance(one, Plain))]
