"""Convert users' attachments to content that the model accepts.

Vision models get pictures, audio models get recordings, and every model gets the text of documents.
The model gets a note about anything else, so that it can mention it. No attachment fails the turn.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...agent.provider import ModelMessage
from ...agent.tools import ToolAttachment
from ...config.transcription import TranscriptionConfig
from ...db.attachments import AttachmentRow, find_attachments
from ...db.store import Store
from ...errors import AstrBotError, RunCancelled, ToolError, Unreadable
from ...files.attachments import Attachments
from ...files.reading.reader import FileReader
from ...messages import MEDIA_TYPES, plain_text
from ...runtime.aside import AsideError
from ...runtime.calls import Cancellable
from ...runtime.once import Once
from .prepared_files import MAX_SOUND_BYTES, PreparedFiles
from .transcription import Transcriber

log = logging.getLogger(__name__)

#: The content of a user message: text, or OpenAI's list of parts.
Content = str | list[dict[str, Any]]

_WORDS = {"image": "Image", "record": "Audio", "video": "Video", "file": "File"}

#: Formats of ``input_audio`` (Source: OpenAI's chat completions).
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3"}

#: Beginning of a WAV file: its size, then size and tag of its format (1 means PCM).
_PCM_HEAD = struct.Struct("<8s8sIH")

#: Maximum size of one message's files in base64 characters. Endpoints reject more.
_MAX_CARRIED_CHARS = 20 * 2**20

#: The same of all messages that a caller sends with its request.
MAX_SUPPLIED_CHARS = 4 * _MAX_CARRIED_CHARS


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Limits on the model's input.

    :param modalities: Any of ``text``, ``image``, ``audio``.
    :param file_tokens: Maximum tokens for the text of one message's documents.
    :param max_image_side_px: Longer pictures are scaled down to this size.
    :param transcription: Transcribes recordings for models without audio input.
    :param video_frames: Number of frames of a video for a vision model.
    """

    modalities: Sequence[str]
    file_tokens: int
    max_image_side_px: int
    transcription: TranscriptionConfig | None = None
    video_frames: int = 0


class MediaReader:
    """Builds the content of user messages."""

    def __init__(
        self,
        store: Store,
        attachments: Attachments,
        reader: FileReader,
        transcriber: Transcriber,
    ) -> None:
        self._store = store
        self._transcriber = transcriber
        self._attachments = attachments
        self._files = PreparedFiles(attachments, reader)
        self._once = Once()

    def render(
        self,
        segments: Sequence[dict[str, Any]],
        quotes: Sequence[str],
        limits: MediaLimits,
        cancel: Cancellable | None = None,
    ) -> Content:
        """Return a user message's content.

        :raises RunCancelled: if cancelled.
        """
        text = plain_text(list(segments))
        text += "".join(f"\n<Quoted Message>\n{one}\n</Quoted Message>" for one in quotes)
        # Each attachment is rendered once, even if the message lists it twice.
        ids = dict.fromkeys(one["attachment_id"] for one in segments if one["type"] in MEDIA_TYPES)
        if not ids:
            return text
        with self._store.read() as db:
            found = find_attachments(db, list(ids))
        room = limits.file_tokens * 4
        parts: list[dict[str, Any]] = []
        carried = 0
        for attachment_id in ids:
            attachment = found.get(attachment_id)
            if attachment is None:
                text += "\n[Attachment: deleted since]"
                continue
            note, own = self._prepare(attachment, limits, room, cancel)
            size = sum(map(_size_of, own))
            if carried + size > _MAX_CARRIED_CHARS:
                note += "\n[It is not shown: the files before it use up the space.]"
                own, size = [], 0
            carried += size
            text += f"\n{note}"
            room -= len(note)
            parts += own
        text = text.lstrip("\n")
        return [{"type": "text", "text": text}, *parts] if parts else text

    def to_tool_attachment(self, row: AttachmentRow) -> ToolAttachment:
        """Return an attachment in the form that tools get."""
        return ToolAttachment(
            attachment_id=row.attachment_id,
            filename=row.name,
            type=row.type,
            mime=row.mime,
            size_bytes=row.size_bytes,
            reader=lambda max_bytes: self._attachments.read_bytes(row, max_bytes),
            text_reader=lambda: self._read_text(row),
        )

    def _read_text(self, row: AttachmentRow) -> str:
        """Return the text of a file for a tool.

        :raises ToolError: if the file has no readable text, with the reason.
        """
        try:
            made = self._files.get_text(row, None)
        except Unreadable as error:
            raise ToolError(f"{row.name} could not be read: {error}") from error
        except AsideError as error:
            raise ToolError(f"{row.name} could not be read: {error.words}") from error
        if not made.text:
            raise ToolError(f"{row.name} ({row.mime}) is not a text{made.notes}")
        return made.text

    def _prepare(
        self, attachment: AttachmentRow, limits: MediaLimits, room: int, cancel: Cancellable | None
    ) -> tuple[str, list[dict[str, Any]]]:
        """Return a description of an attachment, and the parts with its content."""
        label = (
            f"[{_WORDS[attachment.type]} Attachment: name {attachment.name}, "
            f"type {attachment.mime}, {attachment.size_bytes} bytes]"
        )
        try:
            if attachment.type == "image" and "image" in limits.modalities:
                side_px = limits.max_image_side_px
                made = self._files.get_picture(attachment, side_px, cancel)
                if made.images:  # a TIFF, such as a fax
                    made = self._files.get_pages(attachment, made.images, side_px, cancel)
                return label + made.notes, [_image_part(one) for one in made.parts]
            if attachment.type == "record":
                return self._prepare_sound(label, attachment, limits, cancel)
            if attachment.type == "video":
                return self._prepare_video(label, attachment, limits, cancel)
            if attachment.type == "file":
                return self._prepare_document(label, attachment, limits, room, cancel)
        except RunCancelled:
            raise
        except Unreadable as error:
            return f"{label}\n[It could not be read: {error}.]", []
        except AsideError as error:
            return f"{label}\n[It could not be read: {error.words}.]", []
        except (AstrBotError, OSError) as error:
            # A damaged file must not fail the turn.
            log.info("attachment %s is not readable: %r", attachment.attachment_id, error)
            return f"{label}\n[It could not be read.]", []
        return f"{label}\n[This model cannot take it in.]", []

    def _prepare_document(
        self,
        label: str,
        attachment: AttachmentRow,
        limits: MediaLimits,
        room: int,
        cancel: Cancellable | None,
    ) -> tuple[str, list[dict[str, Any]]]:
        """Return the label with as much of the text as fits, and the scanned pages."""
        made = self._files.get_text(attachment, cancel)
        label += made.notes
        parts: list[dict[str, Any]] = []
        text = made.text
        if made.images and "image" in limits.modalities:
            side_px = limits.max_image_side_px
            try:
                pages = self._files.get_pages(attachment, made.images, side_px, cancel)
            except (Unreadable, AsideError):
                if not text:
                    raise
            else:
                label += pages.notes
                parts = [_image_part(one) for one in pages.parts]
        if not text:
            return label, parts
        if len(text) > room:
            # The end says why a program failed, or what a sheet adds up to.
            last = max(room, 0) // 4
            first, end = text[: max(room, 0) - last], text[len(text) - last :]
            text = f"{first}\n[cut: {len(text)} characters in all]\n{end}"
        return f"{label}\n<Attachment>\n{text}\n</Attachment>", parts

    def _prepare_sound(
        self, label: str, attachment: AttachmentRow, limits: MediaLimits, cancel: Cancellable | None
    ) -> tuple[str, list[dict[str, Any]]]:
        """Return the recording for an audio model, or its transcription for another."""
        if "audio" in limits.modalities:
            format_ = self._find_format(attachment)
            if not format_ or attachment.size_bytes > MAX_SOUND_BYTES:
                made = self._files.get_wav(attachment, cancel)
                return label + made.notes, [_audio_part(made.parts[0], "wav")]
            made = self._files.get_sound(attachment)
            return label, [_audio_part(made.parts[0], format_)]
        config, sha256, notes = limits.transcription, attachment.sha256, ""
        if config is None:
            return f"{label}\n[This model cannot take it in.]", []

        def transcribe() -> str:
            nonlocal notes
            notes, wav = self._files.convert_to_wav(attachment, cancel)
            return self._transcriber.transcribe(config, sha256, wav, cancel)

        said = self._once.make(
            (config, sha256), lambda: self._transcriber.find(config, sha256), transcribe, cancel
        )
        return f"{label}{notes}\n<Transcript>\n{said}\n</Transcript>", []

    def _find_format(self, attachment: AttachmentRow) -> str:
        """Return the format of a recording that is sent unchanged, or "" for any other."""
        format_ = _AUDIO_FORMATS.get(attachment.mime, "")
        if format_ == "wav":
            head = self._attachments.read_bytes(attachment, _PCM_HEAD.size)
            # WAV files may contain other encodings, such as mu-law of telephones.
            if len(head) < _PCM_HEAD.size or _PCM_HEAD.unpack(head)[1:] != (b"WAVEfmt ", 16, 1):
                return ""
        return format_

    def _prepare_video(
        self, label: str, attachment: AttachmentRow, limits: MediaLimits, cancel: Cancellable | None
    ) -> tuple[str, list[dict[str, Any]]]:
        """Return the length of a video, and frames if the limits allow them."""
        described = self._files.describe_video(attachment, cancel)
        if not described.images:  # only the end of an MP4 may say that it is a recording
            return self._prepare_sound(label, attachment, limits, cancel)
        label += described.notes
        if not limits.video_frames or "image" not in limits.modalities:
            return label, []
        made = self._files.get_frames(
            attachment, limits.video_frames, limits.max_image_side_px, cancel
        )
        return label + made.notes, [_image_part(one) for one in made.parts]


def _audio_part(data: str, format_: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": format_}}


def _image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def measure_files(messages: Sequence[ModelMessage]) -> int:
    """Return the size of the pictures and recordings in messages, in bytes."""
    parts = [
        part
        for one in messages
        if isinstance(content := one.get("content"), list)
        for part in content
    ]
    return sum(_size_of(part) for part in parts if part["type"] in ("image_url", "input_audio"))


def _size_of(part: dict[str, Any]) -> int:
    """Return the number of characters in a part."""
    if part["type"] == "image_url":
        return len(part["image_url"]["url"])
    return len(part["input_audio"]["data"])
