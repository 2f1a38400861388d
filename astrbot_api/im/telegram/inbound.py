"""Converts Telegram's updates to messages."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..adapter import FileType, InFile, InMessage
from .entities import cut_units, show_links
from .rich import list_rich_files
from .sharing import write_shared

log = logging.getLogger(__name__)

#: Key in a message -> type of the file, and its default name.
_FILES: tuple[tuple[str, FileType, str], ...] = (
    ("voice", "record", "voice.ogg"),
    ("audio", "record", "audio.mp3"),
    ("video", "video", "video.mp4"),
    ("video_note", "video", "video.mp4"),
    ("animation", "video", "animation.mp4"),
    ("document", "file", "file"),
)


@dataclass(frozen=True, slots=True)
class UpdateReader:
    """Converts the updates about a bot's incoming messages.

    :param bot_id: First part of the bot's token.
    :param username: The bot's name without ``@``, or empty if unknown.
    """

    bot_id: int
    username: str

    def read(self, update: Any) -> InMessage | None:
        """Return the message of an update.

        :returns: None for other updates, and for messages that cannot be answered.
        """
        try:
            if "callback_query" in update:
                return self._read_press(update["callback_query"])
            return self._read_message(update["message"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(update, dict) and not {"message", "callback_query"}.isdisjoint(update):
                log.warning("a Telegram message could not be parsed: %r", error)
            return None

    def _read_message(self, message: dict[str, Any]) -> InMessage | None:
        sender = message.get("sender_chat") or message.get("from") or {}
        # Two bots that answer each other may never stop. A channel's post is no question.
        if sender.get("is_bot") or message.get("is_automatic_forward") or "id" not in sender:
            return None
        chat = message["chat"]
        if chat["type"] not in ("private", "group", "supergroup"):
            return None
        private = chat["type"] == "private"
        answered = message.get("reply_to_message") or {}
        if "forum_topic_created" in answered:
            answered = {}
        text, mentioned, foreign = self._read_text(message)
        quoted = _find_quoted(message, answered)
        # "What is this?" as a reply to a picture refers to the picture.
        about = answered or message.get("external_reply") or {}
        files = tuple(self._list_files(message)) or tuple(self._list_files(about))
        if not text and not files and not mentioned:
            return None
        origin = _name_origin(message.get("forward_origin") or {})
        if origin:
            text = f"[Forwarded from {origin}]\n{text}".rstrip()
        to_bot = (answered.get("from") or {}).get("id") == self.bot_id
        return InMessage(
            event_id=f"{chat['id']}/{message['message_id']}",
            message_type="FriendMessage" if private else "GroupMessage",
            session_id=_name_session(message),
            sender_id=str(sender["id"]),
            sender_name=_name_of(sender),
            text=text,
            files=files,
            addressed=private or ((mentioned or to_bot) and not foreign),
            quoted=quoted,
            platform_message_id=str(message["message_id"]),
            album=str(message.get("media_group_id") or ""),
        )

    def _read_press(self, query: dict[str, Any]) -> InMessage | None:
        """Return the message that a press of a bot's button stands for."""
        message, sender, text = query["message"], query["from"], query.get("data")
        if not isinstance(text, str) or (message.get("from") or {}).get("id") != self.bot_id:
            return None
        chat = message["chat"]
        return InMessage(
            event_id=f"press/{query['id']}",
            message_type="FriendMessage" if chat["type"] == "private" else "GroupMessage",
            session_id=_name_session(message),
            sender_id=str(sender["id"]),
            sender_name=_name_of(sender),
            text=text,
            platform_message_id=str(message["message_id"]),
        )

    def _read_text(self, message: dict[str, Any]) -> tuple[str, bool, bool]:
        """Return the text without mentions of the bot.

        :returns: The text, whether the bot was mentioned or commanded, and whether the text is a
            command for another bot.
        """
        key = "text" if "text" in message else "caption"
        text: str = message.get(key) or ""
        mentioned = foreign = False
        parts = []
        entities = message.get("entities" if key == "text" else "caption_entities") or ()
        for entity in entities:
            named = cut_units(text, entity["offset"], entity["length"])
            if self._names_bot(entity, named):
                mentioned = True
                parts.append(named)
            elif entity["type"] == "bot_command" and entity["offset"] == 0 and "@" in named:
                own = self._is_own(named.partition("@")[2])
                mentioned, foreign = mentioned or own, not own
                if own:
                    parts.append("@" + named.partition("@")[2])
        text = show_links(text, entities)
        for part in parts:
            text = re.sub(rf"(?<![ \t])[ \t]*+{re.escape(part)}(?!\w)[,:]?", "", text, count=1)
        sticker = message.get("sticker") or {}
        shown = text.strip() or str(sticker.get("emoji", "")) or write_shared(message)
        return shown, mentioned, foreign

    def _names_bot(self, entity: dict[str, Any], named: str) -> bool:
        if entity["type"] == "text_mention":
            return bool(entity["user"]["id"] == self.bot_id)
        return entity["type"] == "mention" and self._is_own(named[1:])

    def _is_own(self, name: str) -> bool:
        return bool(self.username) and name.casefold() == self.username.casefold()

    def _list_files(self, message: dict[str, Any]) -> Iterator[InFile]:
        photo = message.get("photo")
        if photo:
            largest = max(photo, key=lambda size: size["width"] * size["height"])
            yield self._make_file("image", "photo.jpg", largest)
        sticker = message.get("sticker")
        if sticker and not sticker.get("is_animated") and not sticker.get("is_video"):
            yield self._make_file("image", "sticker.webp", sticker)
        for key, kind, name in _FILES:
            # An animation is also included as a document.
            if message.get(key) and not (key == "document" and message.get("animation")):
                file = message[key]
                yield self._make_file(kind, str(file.get("file_name") or name), file)
        for one in list_rich_files(message.get("rich_message") or {"blocks": ()}):
            yield from self._list_files(one)

    def _make_file(self, kind: FileType, name: str, file: dict[str, Any]) -> InFile:
        return InFile(kind, name, str(file["file_id"]))


def find_pressed(update: Any) -> str:
    """Return the id of the button press in an update, or an empty text."""
    query = update.get("callback_query") if isinstance(update, dict) else None
    return str(query.get("id") or "") if isinstance(query, dict) else ""


def _name_session(message: dict[str, Any]) -> str:
    session = str(int(message["chat"]["id"]))
    if message.get("is_topic_message"):
        session += f"#{int(message['message_thread_id'])}"
    return session


def _name_of(sender: dict[str, Any]) -> str:
    names = (sender.get(key) for key in ("first_name", "last_name", "title"))
    return " ".join(str(name) for name in names if name) or str(sender.get("username") or "")


def _name_origin(origin: dict[str, Any]) -> str:
    """Return the name of a forwarded message's author, or an empty text."""
    names = ("sender_user", "sender_chat", "chat")
    author: dict[str, Any] = next((origin[name] for name in names if origin.get(name)), {})
    return _name_of(author) or str(origin.get("sender_user_name") or "")


def _find_quoted(message: dict[str, Any], answered: dict[str, Any]) -> str | None:
    quote = (message.get("quote") or {}).get("text")
    if quote or not answered:
        return quote or write_shared(message.get("external_reply") or {}) or None
    text, entities = answered.get("text"), answered.get("entities")
    if not text:
        text, entities = answered.get("caption"), answered.get("caption_entities")
    return show_links(text or "", entities or ()) or write_shared(answered) or None
