"""What users sent along, as a model can take it.

A picture goes to a model that sees, a recording to one that hears, the text
of a document to any. Whatever the model cannot take is named to it instead,
so that it can say so; nothing makes the turn fail.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...agent.tools import ToolAttachment
from ...db.attachments import AttachmentRow, find_attachments
from ...db.store import Store
from ...errors import AstrBotError, RunCancelled, Unreadable
from ...files.attachments import Attachments
from ...files.reading.reader import EXTRACT_TEXT, SCALE_IMAGE, FileReader
from ...messages import MEDIA_TYPES, plain_text
from ...runtime.aside import AsideError
from ...runtime.calls import Cancellable
from ...runtime.threads import run_native

log = logging.getLogger(__name__)

#: The content of a user message: text, or OpenAI's list of parts.
Content = str | list[dict[str, Any]]

_WORDS = {"image": "Image", "record": "Audio", "video": "Video", "file": "File"}

#: Formats of ``input_audio`` (Source: OpenAI's chat completions).
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3"}

#: Largest file that is read into memory for a model, in bytes.
_MAX_READ_BYTES = 32 * 1024 * 1024

#: What is kept of prepared attachments, in characters: a document is asked
#: about more than once, and reading a PDF costs much more than keeping it.
_KEPT_CHARS = 32_000_000


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What a model is given.

    :param modalities: Of ``text``, ``image``, ``audio``.
    :param file_tokens: Room for the text of the documents of one message.
    :param max_image_side_px: Longer pictures are scaled down to this.
    """

    modalities: Sequence[str]
    file_tokens: int
    max_image_side_px: int


class MediaReader:
    """Makes the content of user messages, and keeps what was costly to make."""

    def __init__(self, store: Store, attachments: Attachments, reader: FileReader) -> None:
        self._store = store
        self._attachments = attachments
        self._reader = reader
        self._kept = _Kept(_KEPT_CHARS)

    def render(
        self,
        segments: Sequence[dict[str, Any]],
        quotes: Sequence[str],
        limits: MediaLimits,
        cancel: Cancellable | None = None,
    ) -> Content:
        """Return a user message's content.

        :param segments: As they are stored.
        :param quotes: Texts that the message quotes.
        :param cancel: Ends the reading of a file at once.
        :raises RunCancelled: when it did.
        """
        text = plain_text(list(segments))
        text += "".join(f"\n<Quoted Message>\n{one}\n</Quoted Message>" for one in quotes)
        ids = [one["attachment_id"] for one in segments if one["type"] in MEDIA_TYPES]
        if not ids:
            return text
        with self._store.read() as db:
            found = find_attachments(db, ids)
        room = limits.file_tokens * 4
        parts: list[dict[str, Any]] = []
        for attachment_id in ids:
            attachment = found.get(attachment_id)
            if attachment is None:
                text += "\n[Attachment: deleted since]"
                continue
            note, part = self._prepare(attachment, limits, room, cancel)
            text += f"\n{note}"
            room -= len(note)
            if part is not None:
                parts.append(part)
        text = text.lstrip("\n")
        return [{"type": "text", "text": text}, *parts] if parts else text

    def to_tool_attachment(self, row: AttachmentRow) -> ToolAttachment:
        """Return an attachment as tools see it."""
        return ToolAttachment(
            attachment_id=row.attachment_id,
            filename=row.name,
            type=row.type,
            mime=row.mime,
            size_bytes=row.size_bytes,
            reader=lambda max_bytes: self._attachments.read_bytes(row, max_bytes),
        )

    def _prepare(
        self, attachment: AttachmentRow, limits: MediaLimits, room: int, cancel: Cancellable | None
    ) -> tuple[str, dict[str, Any] | None]:
        """Return what is said of an attachment, and the part that carries it, if any."""
        label = (
            f"[{_WORDS[attachment.type]} Attachment: name {attachment.name}, "
            f"type {attachment.mime}, {attachment.size_bytes} bytes]"
        )
        try:
            if attachment.type == "image" and "image" in limits.modalities:
                return label, self._image_part(attachment, limits.max_image_side_px, cancel)
            if attachment.mime in _AUDIO_FORMATS and "audio" in limits.modalities:
                return label, self._audio_part(attachment)
            if attachment.type == "file":
                return self._with_text(label, attachment, room, cancel), None
        except RunCancelled:
            raise
        except Unreadable as error:
            return f"{label}\n[It could not be read: {error}.]", None
        except AsideError as error:
            return f"{label}\n[It could not be read: {error.words}.]", None
        except (AstrBotError, OSError) as error:
            # A damaged file must not cost its sender the answer.
            log.info("attachment %s is not readable: %r", attachment.attachment_id, error)
            return f"{label}\n[It could not be read.]", None
        if attachment.type == "file":
            return label, None
        return f"{label}\n[This model cannot take it in.]", None

    def _image_part(
        self, attachment: AttachmentRow, side_px: int, cancel: Cancellable | None
    ) -> dict[str, Any]:
        def make() -> str:
            mime, scaled = self._reader.run(
                SCALE_IMAGE, attachment, cancel, mime=attachment.mime, max_side_px=side_px
            )
            return f"data:{mime};base64,{run_native(base64.b64encode, scaled).decode()}"

        url = self._make_once(f"image {side_px}", attachment, make)
        return {"type": "image_url", "image_url": {"url": url}}

    def _audio_part(self, attachment: AttachmentRow) -> dict[str, Any]:
        def make() -> str:
            if attachment.size_bytes > _MAX_READ_BYTES:
                raise Unreadable("it is too large")
            data = self._attachments.read_bytes(attachment, _MAX_READ_BYTES)
            return run_native(base64.b64encode, data).decode()

        data = self._make_once("audio", attachment, make)
        audio = {"data": data, "format": _AUDIO_FORMATS[attachment.mime]}
        return {"type": "input_audio", "input_audio": audio}

    def _with_text(
        self, label: str, attachment: AttachmentRow, room: int, cancel: Cancellable | None
    ) -> str:
        """Return the label and, below it, as much of the document's text as there is room."""

        def make() -> str:
            _, text = self._reader.run(
                EXTRACT_TEXT, attachment, cancel, mime=attachment.mime, name=attachment.name
            )
            return text.decode()

        text = self._make_once("text", attachment, make)
        if not text:
            return label
        if len(text) > room:
            cut = max(room, 0)
            text = f"{text[:cut]}\n[cut: {len(text)} characters in all]"
        return f"{label}\n<Attachment>\n{text}\n</Attachment>"

    def _make_once(self, kind: str, attachment: AttachmentRow, make: Callable[[], str]) -> str:
        """Return what is made of a file's bytes, made once for the same bytes."""
        key = (kind, attachment.sha256)
        known = self._kept.get(key)
        if known is None:
            known = make()
            self._kept.put(key, known)
        return known


class _Kept:
    """The last used texts, within a number of characters."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._lock = threading.Lock()
        self._texts: OrderedDict[tuple[str, str], str] = OrderedDict()

    def get(self, key: tuple[str, str]) -> str | None:
        with self._lock:
            text = self._texts.get(key)
            if text is not None:
                self._texts.move_to_end(key)
            return text

    def put(self, key: tuple[str, str], text: str) -> None:
        with self._lock:
            self._chars += len(text) - len(self._texts.pop(key, ""))
            self._texts[key] = text
            while self._chars > self._max_chars:
                self._chars -= len(self._texts.popitem(last=False)[1])
