"""Suspend a turn that waits for a person, so that it holds no thread and no stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import peewee

from ... import events
from ...agent.steps import ApprovalNeeded
from ...config.settings import Settings
from ...db import approvals, key_usage, run_stops, run_workers, runs
from ...db.store import Store
from ...deliveries.webhooks import Announcer
from ...errors import ToolError
from ...events import Event
from ...runtime.clock import now_us, to_iso
from .approvals import name_approval, show_arguments
from .outcome import RunLost
from .packing import pack_waiting
from .sending import Speaker
from .turn import OpenTurn

#: Seconds to wait for the journal to store a turn's last events before it is suspended.
_JOURNAL_S = 5.0

#: Maximum length of the arguments in a messenger's question, in characters.
_MAX_SHOWN_CHARS = 1000


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
            if not run_workers.is_owner(db, turn.number, turn.worker_id):
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
            key_usage.add_turn(
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
        turn.log.mark_lost()
        if turn.request.origin is not None:
            self._ask(needed)

    def begin_approved(self) -> None:
        """Mark approved calls as possibly made, before they are made.

        :raises RunLost: if another worker has the turn.
        """
        turn = self._turn

        def job(db: peewee.Database) -> None:
            if not run_workers.is_owner(db, turn.number, turn.worker_id):
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


def _describe_call(tool: str, args: object) -> str:
    """Return a call for people, in Markdown that shows all its characters or how many it omits."""
    text = show_arguments(args if isinstance(args, str) else orjson.dumps(args).decode())
    more = len(text) - _MAX_SHOWN_CHARS
    omitted = f"\n… {more} more characters" if more > 0 else ""
    return f"{tool}\n```json\n{text[:_MAX_SHOWN_CHARS]}\n```{omitted}"
