"""Suspend a turn that waits for a person, so that it holds no thread and no stream."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import orjson
import peewee

from ... import events
from ...agent.steps import ApprovalNeeded
from ...config.settings import Settings
from ...db import approvals, keyuse, ownership, run_stops, runs
from ...db.approvals import ApprovalRow
from ...db.audit import AuditEntry
from ...db.store import Store
from ...deliveries.webhooks import Announcer
from ...errors import ApiError, ToolError
from ...events import Event
from ...runtime.clock import now_us, to_iso
from .outcome import RunLost
from .packing import pack_waiting
from .sending import Speaker
from .turn import OpenTurn

#: Seconds to wait for the journal to store a turn's last events before it is suspended.
_JOURNAL_S = 5.0

#: Maximum number of runs that one call of a periodic job processes.
_AT_ONCE = 500

#: Maximum length of the arguments in a messenger's question, in characters.
_MAX_SHOWN_CHARS = 1000

#: Characters that do not show or reorder others, and the one that ends a code block.
_UNSEEN = re.compile(
    "[`\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class Waits:
    """Suspends one turn."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        speaker: Speaker,
        announcer: Announcer,
        turn: OpenTurn,
    ) -> None:
        self._announcer = announcer
        self._settings = settings
        self._store = store
        self._speaker = speaker
        self._turn = turn

    def suspend(self, needed: ApprovalNeeded, stats: Mapping[str, Any]) -> Iterator[Event]:
        """Store the open approvals and yield their events. Any worker may then resume the turn.

        :param stats: The turn's ``agent_stats`` so far.
        :raises RunLost: if another worker already has the turn.
        :raises StorageError: if the approvals cannot be stored.
        """
        turn = self._turn
        expires_at = now_us() + int(self._settings.approval_s * 1_000_000)

        asked = [
            events.approval_required(
                turn.run_id, name_approval(turn.run_id, call.id), call.name, call.args,
                to_iso(expires_at),
            )
            for call in needed.calls
        ]  # fmt: skip

        # The request was too long to store when the turn began.
        request = pack_waiting(turn) if turn.pinned.is_set() else None
        request_bytes = len(request.encode()) if request else 0

        def ask(db: peewee.Database) -> None:
            if not ownership.is_owner(db, turn.number, turn.worker_id):
                raise RunLost
            if request is not None:
                runs.store_request(db, turn.number, request)
            first = not approvals.was_asked(db, turn.number)
            held_bytes = approvals.measure_run(db, turn.number, request_bytes)
            for call, event in zip(needed.calls, asked, strict=True):
                if approvals.add_approval(
                    db, event["data"]["id"], turn.number, call_id=call.id, tool=call.name,
                    args=orjson.dumps(call.args).decode(), expires_at=expires_at,
                    payer=turn.request.payer, more_bytes=held_bytes,
                ):  # fmt: skip
                    held_bytes = 0
                    self._announcer.queue(
                        db, "approval_required", payer=turn.request.payer, run_id=turn.run_id,
                        session_id=turn.session.session_id, username=turn.request.creator,
                        traceparent=turn.span.to_traceparent(), **event["data"],
                    )  # fmt: skip
            keyuse.add_turn(
                db, turn.request.counting_keys, {**stats, "end_time": stats["start_time"]},
                turns=int(first), counted=turn.resumed.counted if turn.resumed else (0, 0),
            )  # fmt: skip

        # Before the events, since a client may answer at once.
        self._store.write(ask)
        yield from asked
        turn.log.wait_until_written(_JOURNAL_S)

        def suspend(db: peewee.Database) -> None:
            if not runs.wait_for_person(db, turn.number, turn.worker_id):
                raise RunLost
            if not approvals.has_pending(db, turn.number) or run_stops.is_stopping(db, turn.number):
                runs.release_waiting(db, turn.number)

        self._store.write(suspend)
        turn.log.lose()
        if turn.request.origin is not None:
            self._ask(needed)

    def begin_approved(self) -> None:
        """Mark approved calls as possibly made, before they are made.

        :raises RunLost: if another worker has the turn.
        """
        turn = self._turn

        def job(db: peewee.Database) -> None:
            if not ownership.is_owner(db, turn.number, turn.worker_id):
                raise RunLost
            approvals.begin_approved(db, turn.number)

        self._store.write(job)

    def _ask(self, needed: ApprovalNeeded) -> None:
        """Send the question to the messenger."""
        calls = "\n".join(_describe_call(one.name, one.args) for one in needed.calls)
        try:
            self._speaker.say(
                self._turn, f"This needs your approval:\n{calls}\n/approve or /reject",
                choices=[
                    ("Approve", f"/approve #{self._turn.run_id}"),
                    ("Reject", f"/reject #{self._turn.run_id}"),
                ],
            )  # fmt: skip
        except ToolError:
            return  # the approval is still open


@dataclass(frozen=True, slots=True)
class Decided:
    """Result of a decision.

    :param left: Number of the run's undecided calls. The run resumes at 0.
    """

    calls: list[ApprovalRow]
    left: int


def decide(
    db: peewee.Database,
    run: int,
    *,
    approval_id: str | None = None,
    approved: bool,
    arguments: str | None = None,
    comment: str | None = None,
) -> Decided:
    """Store a decision. After the last one any worker may resume the run.

    :param run: The run's number.
    :param approval_id: The call to decide, or None for all calls of the run.
    :raises ApiError: ``approval_not_found`` or ``approval_decided``.
    """
    ownership.hold_run(db, run)  # its worker may be suspending it
    asked = approvals.list_approvals(db, run)
    wanted = [one for one in asked if approval_id in (None, one.approval_id)]
    if approval_id is not None and not wanted:
        raise approval_not_found(approval_id)
    status = "approved" if approved else "rejected"
    decided = [
        one
        for one in wanted
        if one.expires_at > now_us()
        and approvals.decide(db, one.approval_id, status, arguments=arguments, comment=comment)
    ]
    if approval_id is not None and not decided:
        raise ApiError(
            "approval_decided", f"{wanted[0].tool}: the call was already decided or has expired"
        )
    left = sum(one.status == "pending" for one in asked) - len(decided)
    if not left:
        runs.release_waiting(db, run)
    return Decided(decided, left)


def approval_not_found(approval_id: str) -> ApiError:
    """Return the error for an id without an approval that the caller may decide."""
    remedy = "if its turn has ended, send a new message"
    return ApiError("approval_not_found", f"approval not found: {approval_id[:100]}; {remedy}")


def describe_decision(
    call: ApprovalRow, approved: bool, *, actor: str, address: str = "", arguments: str = ""
) -> AuditEntry:
    """Return the audit entry of a decision."""
    action = "call_approved" if approved else "call_rejected"
    detail = f"{call.tool} {arguments or call.args}"
    return AuditEntry(action, actor, address, call.approval_id, detail)


def reject_waiting(db: peewee.Database, session: int, comment: str) -> None:
    """Reject all open approvals of a session, so that its suspended runs resume and end."""
    for number in runs.list_waiting(db, session):
        _reject(db, number, comment)


def reject_expired(store: Store) -> None:
    """Reject approvals that expired undecided. Runs periodically."""
    with store.read() as db:
        expired = approvals.list_expired(db, _AT_ONCE)
    for number in expired:
        store.write(partial(_reject, run=number, comment="nobody has decided in time"))


def _reject(db: peewee.Database, run: int, comment: str) -> None:
    approvals.reject_pending(db, run, comment)
    runs.release_waiting(db, run)


def split_run_id(comment: str) -> tuple[str, str]:
    """Split a button's command into its run id (or "") and the remaining text."""
    word, _, rest = comment.partition(" ")
    return (word[1:], rest.strip()) if word.startswith("#") else ("", comment)


def name_approval(run_id: str, call_id: str) -> str:
    """Return the id of an approval. Asking again for the same call gives the same id."""
    return str(uuid.uuid5(uuid.UUID(run_id), call_id))


def show_arguments(args: str) -> str:
    """Return the same JSON, with escapes for characters that would hide a part of it."""
    return _UNSEEN.sub(lambda found: _escape(found[0]), args)


@lru_cache(maxsize=5000)
def _escape(char: str) -> str:
    return re.sub("....", r"\\u\g<0>", char.encode("utf-16-be").hex())


def _describe_call(tool: str, args: object) -> str:
    """Return a call for people, in Markdown that shows all its characters or how many it omits."""
    text = show_arguments(args if isinstance(args, str) else orjson.dumps(args).decode())
    more = len(text) - _MAX_SHOWN_CHARS
    omitted = f"\n… {more} more characters" if more > 0 else ""
    return f"{tool}\n```json\n{text[:_MAX_SHOWN_CHARS]}\n```{omitted}"
