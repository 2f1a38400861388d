"""Conversion of a chat completion's messages to the parts of a turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...chat.context.history import MAX_NAME_CHARS, to_one_line
from ...chat.context.supplied import SuppliedContext, SuppliedMessage
from ...errors import ApiError, refuse
from ...messages import (
    Media,
    Plain,
    Segment,
    check_text,
    clean_text,
    require_content,
    separate_texts,
)
from ..rendering import to_text
from .files import decode_base64

MAX_MESSAGES = 2000

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

#: Stands for an empty message that follows others. Source: AutoGen's "default_auto_reply".
NO_TEXT = "(no text)"

#: Stores a file's data under a name and returns the attachment id.
StoreFile = Callable[[bytes, str], str]


_FILE_TYPES = ("image_url", "input_audio", "file")


def read_messages(
    messages: Any,
    store_file: StoreFile,
    *,
    max_chars: int,
    max_segments: int,
    store_earlier: StoreFile | None = None,
) -> tuple[list[Segment], SuppliedContext]:
    """Return the message to answer, and the messages around it.

    The user's last message is answered. Later messages are sent to the model unchanged: calls of
    the caller's tools with their results, or the beginning of an answer. If the user's messages are
    empty, the instructions are answered. If the user's messages have more than one ``name``, each
    text begins with it, as in groups of messengers.

    :param store_earlier: Stores the files of the user's earlier messages. None if the model does
        not get these messages.
    :raises ApiError: ``invalid_request`` or ``message_empty``.
    """
    for at, message in enumerate(check_list(messages)):
        if message.get("role") not in ROLES:
            raise refuse(f"messages[{at}].role must be one of {', '.join(ROLES)}")
        if not isinstance(message.get("name"), str | None):
            raise refuse(f"messages[{at}].name must be a string")
        _check_calls(message, f"messages[{at}]")
    if len({name for one in messages if (name := _find_speaker(one))}) > 1:
        messages = [_begin_with_speaker(one) for one in messages]
    users = [at for at, message in enumerate(messages) if message["role"] == "user"]
    if all(is_empty(messages[at].get("content")) for at in users):
        users = []  # some clients add an empty message to instructions
    last = users[-1] if users else -1
    earlier = messages[: max(last, 0)]
    files = _read_earlier(earlier, store_earlier, max_segments) if store_earlier else {}
    context = _read_context(messages, last, files)
    if users:
        where = f"messages[{last}].content"
        content = messages[last].get("content")
        if store_earlier and is_empty(content):
            content = NO_TEXT
        segments = _read_segments(content, where, store_file, max_segments)
    else:
        where = "messages"
        segments = _read_segments(context.instructions, where, store_file, max_segments)
        context = replace(context, instructions="")
    chars = sum(len(one.text) for one in segments if isinstance(one, Plain))
    if chars > max_chars:
        raise refuse(f"{where} has {chars} characters; at most {max_chars} are allowed")
    return segments, context


def check_list(messages: Any) -> list[dict[str, Any]]:
    """Return a list of messages after checking that each is an object.

    :raises ApiError: ``invalid_request``.
    """
    if not isinstance(messages, list) or not messages:
        raise refuse("messages must be a list with at least one message")
    if len(messages) > MAX_MESSAGES:
        raise refuse(f"messages has {len(messages)} messages; at most {MAX_MESSAGES} are allowed")
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise refuse(f"messages[{at}] must be an object")
    return messages


def is_empty(content: Any) -> bool:
    """Return whether the content of a message has no text and no file."""
    if content is None:
        return True
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return all(map(_is_empty_text, parts))


def _is_empty_text(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind, text = part.get("type"), part.get("text")
    # Some clients send pictures with an empty text.
    is_text = isinstance(kind, str) and kind.endswith("text")
    return is_text and isinstance(text, str) and not text.strip()


def _find_speaker(message: dict[str, Any]) -> str:
    """Return the ``name`` of a user's message, or empty."""
    name = message.get("name") if message["role"] == "user" else None
    return to_one_line(name[:MAX_NAME_CHARS]) if name else ""


def _begin_with_speaker(message: dict[str, Any]) -> dict[str, Any]:
    """Return a user's message whose first text begins with its ``name``."""
    name, content = _find_speaker(message), message.get("content")
    if not name or not content:
        return message
    if isinstance(content, str):
        return {**message, "content": f"{name}: {content}"}
    if not isinstance(content, list):
        return message
    parts = list(content)
    for at, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if isinstance(text, str) and text:
            parts[at] = {**part, "text": f"{name}: {text}"}
            break
    return {**message, "content": parts}


def _check_calls(message: dict[str, Any], where: str) -> None:
    calls, call_id = message.get("tool_calls"), message.get("tool_call_id")
    if not isinstance(calls, list | None) or not all(isinstance(one, dict) for one in calls or ()):
        raise refuse(f"{where}.tool_calls must be a list of objects")
    if not isinstance(call_id, str | None):
        raise refuse(f"{where}.tool_call_id must be a string")


def _read_earlier(
    messages: list[dict[str, Any]], store_file: StoreFile, most: int
) -> dict[int, list[dict[str, Any]]]:
    """Return the user's messages that have files, as stored segments, by index.

    Only the newest ``most`` files are read. The others remain placeholders, as do files that
    cannot be stored: the client cannot remove them from its history.
    """
    found = {}
    for at in range(len(messages) - 1, -1, -1):
        content = messages[at].get("content")
        if messages[at]["role"] != "user" or not isinstance(content, list):
            continue
        where, ids = f"messages[{at}].content", {}
        for i in range(len(content) - 1, -1, -1):
            if most > 0 and _is_file(content[i]):
                most -= 1
                with suppress(ApiError):
                    ids[i] = _read_file(content[i], where, store_file).attachment_id
        if ids:
            text = _read_text([one for i, one in enumerate(content) if i not in ids], where)
            media = [Media(ids[i], "file").to_wire() for i in sorted(ids)]
            found[at] = [Plain(text).to_wire(), *media]
    return found


def _is_file(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _FILE_TYPES


def _read_context(
    messages: list[dict[str, Any]], last: int, files: Mapping[int, list[dict[str, Any]]]
) -> SuppliedContext:
    """Return the messages before and after the message at ``last``."""
    instructions: list[str] = []
    said: dict[bool, list[SuppliedMessage]] = {False: [], True: []}
    called: dict[str, list[str]] = {}
    for at, message in enumerate(messages):
        if at == last:
            continue
        text, role = _read_text(message.get("content"), f"messages[{at}].content"), message["role"]
        if role in ("system", "developer"):
            instructions += [text] if text.strip() else []
            continue
        role = "tool" if role == "function" else role
        one = SuppliedMessage(role, text, segments=files.get(at, ()))
        if role == "assistant":
            # OpenAI's older form of one call without an id, whose result has the role "function".
            calls = message.get("tool_calls") or [{"function": message.get("function_call")}]
            one = replace(one, calls=_read_calls(calls, at, called))
        elif role == "tool":
            ids = called.get(message.get("tool_call_id") or "", [""])
            one = replace(one, call_id=ids.pop(0) if len(ids) > 1 else ids[0])
        if one.calls or one.call_id or (role in ("user", "assistant") and text.strip()):
            said[at > last].append(one)
    return SuppliedContext("\n\n".join(instructions), said[False], said[True])


def _read_calls(
    calls: list[dict[str, Any]], at: int, called: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Return the valid calls of an assistant's message, with unique ids.

    Some models give several calls the same id, or none. Their results follow in the same order.

    :param called: Receives the unique ids by the ids in the request.
    """
    found, ids = [], dict[str, list[str]]()
    for i, call in enumerate(calls):
        function, given = call.get("function"), call.get("id") or ""
        if not isinstance(function, dict) or not isinstance(given, str):
            continue
        name, arguments = function.get("name"), function.get("arguments")
        # Some clients send the object, or null for none.
        arguments = "" if arguments is None else to_text(arguments)
        if isinstance(name, str):
            own = clean_text(given) if given and given not in ids else f"call_{at}_{i}"
            ids.setdefault(given, []).append(own)
            kept = {"name": clean_text(name), "arguments": clean_text(arguments)}
            found.append({"id": own, "type": "function", "function": kept})
    called |= ids
    return found


def _read_text(content: Any, where: str, *, is_context: bool = True) -> str:
    """Return the text of a message, with a placeholder for each file."""
    if content is None:
        return ""
    if isinstance(content, str):
        return _take_text(content, where, is_context=is_context)
    if not isinstance(content, list):
        raise refuse(f"{where} must be a string or a list of parts")
    texts = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(_take_text(part.get("text"), f"{where}[{at}].text"))
        elif isinstance(kind, str):
            texts.append(f"[{kind.removesuffix('_url').removeprefix('input_')[:20]}]")
        else:
            raise refuse(f"{where}[{at}].type must be a string")
    return "\n".join(texts)


def _take_text(text: Any, where: str, *, is_context: bool = True) -> str:
    if not isinstance(text, str):
        raise refuse(f"{where} must be a string")
    if is_context:
        return clean_text(text)
    check_text(where, text)
    return text


def _read_segments(
    content: Any, where: str, store_file: StoreFile, max_segments: int
) -> list[Segment]:
    if isinstance(content, list):
        if len(content) > max_segments:
            raise refuse(f"{where} has {len(content)} parts; at most {max_segments} are allowed")
        segments = [
            _read_part(part, f"{where}[{at}]", store_file) for at, part in enumerate(content)
        ]
    else:
        segments = [Plain(_read_text(content, where, is_context=False).strip())]
    found = separate_texts(segments)
    require_content(found)
    return found


def _read_part(part: Any, where: str, store_file: StoreFile) -> Segment:
    if isinstance(part, dict) and part.get("type") == "text":
        return Plain(_take_text(part.get("text"), f"{where}.text", is_context=False))
    if not _is_file(part):
        raise refuse(f"{where}.type must be text, image_url, input_audio or file")
    return _read_file(part, where, store_file)


def _read_file(part: dict[str, Any], where: str, store_file: StoreFile) -> Media:
    kind = part["type"]
    inner = part.get(kind)
    if kind == "image_url" and isinstance(inner, str):
        inner = {"url": inner}  # Source: the format of Mistral's chat completions
    if not isinstance(inner, dict):
        raise refuse(f"{where}.{kind} must be an object")
    if kind == "image_url":
        data = decode_base64(inner.get("url"), f"{where}.image_url.url", must_be_url=True)
        return Media(store_file(data, str(inner.get("filename") or "image")))
    if kind == "input_audio":
        name = "audio." + ("mp3" if inner.get("format") == "mp3" else "wav")
        return Media(
            store_file(decode_base64(inner.get("data"), f"{where}.input_audio.data"), name)
        )
    file_id = inner.get("file_id")
    if isinstance(file_id, str) and file_id:
        check_text(f"{where}.file.file_id", file_id)
        return Media(file_id)
    data = decode_base64(inner.get("file_data"), f"{where}.file.file_data")
    return Media(store_file(data, str(inner.get("filename") or "file")))
