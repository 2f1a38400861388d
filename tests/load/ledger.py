"""Acknowledged data and errors, as recorded by the clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from astrbot_api.errors import STATUS_OF_CODE


@dataclass(frozen=True, slots=True)
class Place:
    """A session and its owner."""

    username: str
    session_id: str


@dataclass(slots=True)
class KeyState:
    """A created key: its secret, and whether it must work.

    :param works: None if a change of the key was not acknowledged, so both are possible.
    """

    secret: str
    works: bool | None = True


@dataclass
class Ledger:
    """The records of all clients of a scenario.

    Each text is sent once, or repeatedly under one ``Idempotency-Key``. It must be stored at most
    once, and exactly once if it was acknowledged.
    """

    #: Acknowledged texts of users and pushed messages, with their message numbers.
    texts: dict[str, tuple[Place, int]] = field(default_factory=dict)
    #: Acknowledged replies: message number and text.
    replies: dict[int, tuple[Place, str]] = field(default_factory=dict)
    #: Texts whose request failed with an error that says "nothing was stored".
    refused: set[str] = field(default_factory=set)
    #: All sent texts, acknowledged or not.
    sent: set[str] = field(default_factory=set)
    #: Runs that a client knows, with the key that may request them.
    runs: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    #: Acknowledged uploads: attachment id and SHA-256.
    uploads: dict[str, str] = field(default_factory=dict)
    #: Keys by id.
    keys: dict[str, KeyState] = field(default_factory=dict)
    #: Number of acknowledged key changes.
    key_changes: int = 0
    #: Errors by code. ``cut`` and ``refused`` are failed connections.
    errors: Counter[str] = field(default_factory=Counter)
    #: Faults: losses, duplicates, unclear errors.
    faults: list[str] = field(default_factory=list)

    def acknowledged(self) -> dict[str, int]:
        """Return the acknowledged number of each kind."""
        return {
            "messages": len(self.texts) + len(self.replies),
            "uploads": len(self.uploads),
            "key changes": self.key_changes,
        }

    def note_error(self, where: str, status: int, body: object) -> str:
        """Record an error response. An unclear one is a fault.

        :param body: The parsed JSON, or None if it was not JSON.
        :returns: Its message.
        """
        if not isinstance(body, dict) or body.get("status") != "error":
            self.faults.append(f"{where}: {status} without the envelope: {str(body)[:200]}")
            return ""
        code, message = str(body.get("code")), str(body.get("message"))
        self.errors[code] += 1
        if STATUS_OF_CODE.get(code) != status or code == "internal_error":
            self.faults.append(f"{where}: {status} {code}: {message}")
        return message

    def note_cut(self, error: BaseException) -> None:
        """Record a connection that broke or was refused."""
        refused = "refused" in str(error) or "NewConnection" in type(error).__name__
        self.errors["refused" if refused else "cut"] += 1
