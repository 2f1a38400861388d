"""What a server acknowledged, and how it refused: written down by the clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from astrbot_api.errors import STATUS_OF_CODE


@dataclass(frozen=True, slots=True)
class Place:
    """A session, and its owner."""

    username: str
    session_id: str


@dataclass(slots=True)
class KeyState:
    """A key that was made: its secret, and whether it is to work.

    :param works: None: a change of it was not acknowledged, so nobody knows.
    """

    secret: str
    works: bool | None = True


@dataclass
class Ledger:
    """One for all clients of a scenario.

    Each text is sent once, or again and again under one ``Idempotency-Key``:
    so it must be stored once at most, and once where that was acknowledged.
    """

    #: Acknowledged texts, of users and pushed ones, with the number of their message.
    texts: dict[str, tuple[Place, int]] = field(default_factory=dict)
    #: Acknowledged replies: the number of the message, and what it says.
    replies: dict[int, tuple[Place, str]] = field(default_factory=dict)
    #: Texts whose request was answered with an error that says "nothing was stored".
    refused: set[str] = field(default_factory=set)
    #: Texts that were sent, acknowledged or not.
    sent: set[str] = field(default_factory=set)
    #: Runs that a client knows of, with the key that may ask for them.
    runs: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    #: Acknowledged uploads: attachment id and SHA-256.
    uploads: dict[str, str] = field(default_factory=dict)
    #: Keys by id.
    keys: dict[str, KeyState] = field(default_factory=dict)
    #: Acknowledged changes of keys.
    key_changes: int = 0
    #: Errors by code; ``cut`` and ``refused`` are connections.
    errors: Counter[str] = field(default_factory=Counter)
    #: What must not be: a loss, a double, an unclear error.
    faults: list[str] = field(default_factory=list)

    def acknowledged(self) -> dict[str, int]:
        """Return how much was acknowledged of each kind."""
        return {
            "messages": len(self.texts) + len(self.replies),
            "uploads": len(self.uploads),
            "key changes": self.key_changes,
        }

    def note_error(self, where: str, status: int, body: object) -> str:
        """Write down an answer that is an error; one that is unclear is a fault.

        :param body: The parsed JSON; None where it was none.
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
        """Write down a connection that broke or was refused."""
        refused = "refused" in str(error) or "NewConnection" in type(error).__name__
        self.errors["refused" if refused else "cut"] += 1
