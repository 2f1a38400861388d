"""Conversion of a response's ``input`` to stored items and to the parts of a turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from ...chat.context.supplied import SuppliedContext, SuppliedMessage
from ...chat.context.thread import SYSTEM_ROLES, read_items
from ...db.responses import EntryRow
from ...errors import refuse
from ...messages import Plain, Segment, require_content, separate_texts
from ...runtime.threads import let_others_run
from ..openai.reading import NO_TEXT, is_empty
from ..state import get_state
from .files import ItemFiles
from .item_parsing import ItemParser, find_reference
from .items import is_of_user, parse_item_id, to_stored
from .stored import choose_item, find_own_entry, is_deleted, item_not_found, list_entry

MAX_ITEMS = 2000


@dataclass(frozen=True, slots=True)
class ResponseInput:
    """Parsed input of a response.

    :param items: Items in the stored form; see :mod:`.items`.
    :param segments: The message to answer, or empty if the turn continues the thread without one.
    """

    items: list[dict[str, Any]]
    segments: list[Segment]
    context: SuppliedContext


class InputReader:
    """Parser of the input items of this request.

    :param username: Owner of the conversation.
    """

    def __init__(self, username: str) -> None:
        self._settings = get_state().settings
        self._files = ItemFiles(username)
        self._parser = ItemParser(self._files)
        #: Referenced entries with their items. Each entry is read once.
        self._entries: dict[str, tuple[EntryRow | None, list[dict[str, Any]]]] = {}
        #: Bytes that all entries, and all items that the input refers to, may still have.
        self._entry_room = self._item_room = self._settings.max_json_bytes

    def read(self, value: Any, instructions: str, *, continues: bool) -> ResponseInput:
        """Return the parsed input.

        The user's last message is answered. Items after it are sent to the model unchanged.

        :param continues: Whether the response continues a thread, so results of calls suffice as
            input.
        :raises ApiError: ``invalid_request`` or ``message_empty``.
        """
        given = _list_given(value, continues=continues)
        last = max((at for at, item in enumerate(given) if is_of_user(item)), default=None)
        if last is not None:
            self._check_count(given[last].get("content"))  # before their files are stored
        segments: list[Segment] = []
        items = self.read_all(given, segments, last)
        said = read_items(items)
        system = [one.text for one in said if one.role in SYSTEM_ROLES and one.text.strip()]
        texts = list(filter(None, [instructions.strip(), *system]))
        if last is None:
            before, after = [], _leave_out_system(said)
            if not after or not continues:
                if after and not texts:
                    raise refuse(
                        "input must have a message of the role user, or continue "
                        "previous_response_id or conversation"
                    )
                answered = system or texts
                segments, texts = [Plain("\n\n".join(answered).strip())], texts[: -len(answered)]
        else:
            cut = len(read_items(items[:last]))
            before, after = _leave_out_system(said[:cut]), _leave_out_system(said[cut + 1 :])
            if is_empty(given[last].get("content")):  # it follows other messages
                segments = [Plain(NO_TEXT)]
        if last is not None or segments:
            segments = self._check(segments)
        return ResponseInput(items, segments, SuppliedContext("\n\n".join(texts), before, after))

    def read_all(
        self,
        given: list[Any],
        segments: list[Segment] | None = None,
        last: int | None = None,
        *,
        name: str = "input",
    ) -> list[dict[str, Any]]:
        """Return items in the stored form.

        :param segments: Receives the content of the item at index ``last``.
        :param name: Name of the list in the request, for errors.
        :raises ApiError: ``invalid_request``.
        """
        if len(given) > MAX_ITEMS:
            raise refuse(f"input has {len(given)} items; at most {MAX_ITEMS} are allowed")
        self._files.limit_earlier(one for at, one in enumerate(given) if at != last)
        found = []
        for at, item in enumerate(given):
            where = f"{name}[{at}]"
            item_id = find_reference(item, where)
            if item_id is not None:
                found.append(self._find(item_id))
            else:
                content = segments if at == last else None
                found.append(self._parser.parse(item, where, content))
        return found

    def _find(self, item_id: str) -> dict[str, Any]:
        """Return a referenced item in the stored form.

        :raises ApiError: ``item_not_found``, or ``invalid_request`` beyond the limits.
        """
        parsed = parse_item_id(item_id)
        if parsed is None:
            raise item_not_found(item_id)
        entry_id, _ = parsed
        if entry_id not in self._entries:
            entry = find_own_entry(entry_id)
            found = list_entry(entry, with_deleted=True) if entry else []
            self._entries[entry_id] = entry, found
            self._entry_room -= len(orjson.dumps(found))
            let_others_run()
        entry, found = self._entries[entry_id]
        item = choose_item(found, item_id)
        if entry is None or item is None or is_deleted(entry, item["id"]):
            raise item_not_found(item_id)
        stored = to_stored(item)
        self._item_room -= len(orjson.dumps(stored))  # a repeated reference counts each time
        if min(self._entry_room, self._item_room) < 0:
            raise refuse(
                "input refers to responses or items of more than "
                f"{self._settings.max_json_bytes} bytes in total; continue with "
                "previous_response_id, or refer to fewer"
            )
        return stored

    def _check_count(self, content: Any) -> None:
        count, most = len(content) if isinstance(content, list) else 1, self._settings.max_segments
        if count > most:
            raise refuse(f"input has a message with {count} parts; at most {most} are allowed")

    def _check(self, given: list[Segment]) -> list[Segment]:
        segments = separate_texts(given)
        require_content(segments)
        max_chars = self._settings.max_message_chars
        chars = sum(len(one.text) for one in segments if isinstance(one, Plain))
        if chars > max_chars:
            raise refuse(
                f"input has a message of {chars} characters; at most {max_chars} are allowed"
            )
        return segments


def _list_given(value: Any, *, continues: bool) -> list[Any]:
    """Return the items of the input, without the empty messages that some clients add."""
    given = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(given, list):
        raise refuse("input must be a string or a list of items")
    if not given and not continues:
        raise refuse("input must have at least one item")
    if continues and given and is_of_user(given[-1]):
        return given
    if all(is_empty(one.get("content")) for one in given if is_of_user(one)):
        return [one for one in given if not is_of_user(one)]
    return given


def _leave_out_system(said: list[SuppliedMessage]) -> list[SuppliedMessage]:
    return [one for one in said if one.role not in SYSTEM_ROLES]
