"""Content without a text of its own: rich messages, locations, contacts, polls, dice, checklists.

Source: https://core.telegram.org/bots/api#message
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .rich import write_rich


def write_shared(message: Mapping[str, Any]) -> str:
    """Return the shared content of a message as text, or an empty text."""
    if message.get("rich_message"):
        return write_rich(message["rich_message"])
    for key, write in _WRITERS.items():
        if message.get(key):
            return f"[{key}: {write(message[key])}]"
    unread = next((key for key in _UNREADABLE if message.get(key)), "")
    return f"[{unread.replace('_', ' ')}, which bots cannot read]" if unread else ""


def _write_venue(venue: dict[str, Any]) -> str:
    return f"{venue['title']}, {venue['address']} ({_write_location(venue['location'])})"


def _write_location(location: dict[str, Any]) -> str:
    return f"{float(location['latitude'])}, {float(location['longitude'])}"


def _write_contact(contact: dict[str, Any]) -> str:
    names = (contact.get("first_name"), contact.get("last_name"), contact["phone_number"])
    return " ".join(str(one) for one in names if one)


def _write_poll(poll: dict[str, Any]) -> str:
    options = (f"{one['text']} ({one['voter_count']})" for one in poll["options"])
    return f"{poll['question']} | {' | '.join(options)}"


def _write_dice(dice: dict[str, Any]) -> str:
    return f"{dice['emoji']} {dice['value']}"


def _write_checklist(checklist: dict[str, Any]) -> str:
    tasks = (
        f"{'☑' if one.get('completion_date') else '☐'} {one['text']}" for one in checklist["tasks"]
    )
    return f"{checklist['title']} | {' | '.join(tasks)}"


#: A venue comes first: Telegram also sends its location separately.
_WRITERS = {
    "venue": _write_venue,
    "location": _write_location,
    "contact": _write_contact,
    "poll": _write_poll,
    "dice": _write_dice,
    "checklist": _write_checklist,
}

#: Content that users forward and that Telegram does not give to bots.
_UNREADABLE = ("story", "paid_media", "giveaway", "game")
