"""Proactive messages: accepted for a UMO, then pushed to a web chat or put into the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ..chat.pushes import PushedMessage, Pusher, resolve_stored
from ..config.settings import Settings
from ..db import deliveries, sessions
from ..db.deliveries import DeliveryRow
from ..db.sessions import NOBODY, WEBCHAT
from ..db.store import Store
from ..deliveries.outbox import Outbox
from ..errors import ApiError, refuse
from ..idempotency import Claim
from ..keys.caller import Reach
from ..keys.rules import KeyGuard
from ..messages import Segment, parse_im_message
from ..runtime.tracing import current_span
from .bots import Bots
from .umo import Umo, parse_umo, split_webchat


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of sending a message to one UMO.

    :param status: ``queued``, ``sending``, ``sent`` or ``failed``.
    :param error: Reason of a refusal or failure, or None.
    """

    umo: str
    delivery_id: str = ""
    status: str = "queued"
    error: ApiError | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """A message to send, with its targets and its caller.

    :param umos: One conversation, or several if ``listed``.
    :param message: A string or a list of segments, not validated.
    :param payer: Key whose quota the message counts towards.
    :param reach: Targets that the caller may send to.
    :param guard: Rules of the caller's key, or None.
    :param listed: Whether the response is a list with one result per UMO.
    """

    umos: Sequence[str]
    message: Any
    key_id: str | None = None
    payer: str | None = None
    reach: Reach = Reach()
    guard: KeyGuard | None = None
    listed: bool = False

    def describe(self, outcomes: Sequence[Outcome]) -> tuple[dict[str, Any], int]:
        """Return the response's data and status."""
        status = 202 if any(one.status in ("queued", "sending") for one in outcomes) else 200
        if self.listed:
            return {"deliveries": [_describe(one) for one in outcomes]}, status
        return {"delivery_id": outcomes[0].delivery_id, "status": outcomes[0].status}, status


#: Stores a message for one target, inside the transaction.
_Job = Callable[[peewee.Database], tuple[Outcome, PushedMessage | None]]


class ProactiveMessages:
    """Accepts messages that do not answer a request of a user."""

    def __init__(
        self, settings: Settings, store: Store, bots: Bots, pusher: Pusher, outbox: Outbox
    ) -> None:
        self._settings = settings
        self._store = store
        self._bots = bots
        self._pusher = pusher
        self._outbox = outbox

    def send(self, sending: Sending, claim: Claim | None = None) -> list[Outcome]:
        """Accept a message for each UMO, then wait a while for its delivery.

        One transaction stores all of them, so a crash leaves all or none.

        :param claim: Stores its response in that transaction if any UMO was accepted.
        :returns: One outcome per UMO, in the same order.
        :raises ApiError: if the message is invalid for all UMOs.
        """
        umos = sending.umos
        if len(umos) == 1:
            parse_umo(umos[0])
        segments = parse_im_message(
            sending.message,
            max_chars=self._settings.max_message_chars,
            max_segments=self._settings.max_segments,
            copies=len(umos),
        )
        jobs = [self._prepare(umo, segments, sending) for umo in umos]

        def accept(db: peewee.Database) -> tuple[list[Outcome], list[PushedMessage]]:
            outcomes, pushed = [], []
            for text, job in zip(umos, jobs, strict=True):
                try:
                    outcome, message = job(db)
                    outcomes.append(outcome)
                    pushed += [message] if message else []
                except ApiError as error:  # before it has written anything
                    outcomes.append(Outcome(text, status="failed", error=error))
            if any(one.error is None for one in outcomes):
                self._pusher.quotas.check_at_end(db, sending.payer)
                if claim is not None:
                    claim.answer(*sending.describe(outcomes)).store(db)
            return outcomes, pushed

        outcomes, pushed = self._store.write(accept)
        for one in pushed:
            self._pusher.announce(one)
        return self._wait(outcomes)

    def _prepare(self, text: str, segments: Sequence[Segment], sending: Sending) -> _Job:
        """Check a target during the request and return the job that stores the message."""
        try:
            umo = parse_umo(text)
            if umo.platform_id == WEBCHAT:
                return self._prepare_push(umo, segments, sending)
            self._check_target(umo, sending.reach)
            self._bots.get_running(umo.platform_id)
        except ApiError as error:
            return _refuse_with(error)
        return self._prepare_delivery(umo, segments, sending)

    def _prepare_delivery(self, umo: Umo, segments: Sequence[Segment], sending: Sending) -> _Job:
        # Read here: the job runs in another thread, without the request's span.
        traceparent = current_span().to_traceparent()

        def job(db: peewee.Database) -> tuple[Outcome, None]:
            waiting = deliveries.count_line(db, str(umo), self._settings.im_max_queued)
            if waiting >= self._settings.im_max_queued:
                raise ApiError(
                    "too_many_deliveries",
                    f"{waiting} messages to this target are waiting; try again later",
                    retry_after_s=30,
                )
            resolved, _ = resolve_stored(db, segments, sending.guard)
            delivery_id = deliveries.add_delivery(
                db, platform_id=umo.platform_id, target=str(umo), key_id=sending.key_id,
                content=[one.to_wire() for one in resolved],
                traceparent=traceparent, payer=sending.payer,
            )  # fmt: skip
            return Outcome(str(umo), delivery_id), None

        return job

    def _prepare_push(self, umo: Umo, segments: Sequence[Segment], sending: Sending) -> _Job:
        username, session_id = split_webchat(umo.session_id)
        if len(session_id) > self._settings.max_session_id_chars:
            raise refuse(
                f"Invalid umo: its session has {len(session_id)} characters; "
                f"at most {self._settings.max_session_id_chars} are allowed"
            )
        if len(username) > self._settings.max_username_chars:
            raise refuse("Invalid umo: its username is too long")
        owner = username or self._find_owner(session_id)
        self._check_target(umo, sending.reach)

        def job(db: peewee.Database) -> tuple[Outcome, PushedMessage]:
            pushed = self._pusher.push(
                db, username=owner, session_id=session_id, segments=segments,
                guard=sending.guard, payer=sending.payer,
            )  # fmt: skip
            delivery_id = deliveries.add_delivery(
                db, platform_id=WEBCHAT, target=str(umo), key_id=sending.key_id,
                # The session contains the message itself.
                content=[], sent_as=[str(pushed.id)], payer=sending.payer,
            )  # fmt: skip
            return Outcome(str(umo), delivery_id, "sent"), pushed

        return job

    def may_see(self, row: DeliveryRow, reach: Reach) -> bool:
        """Return whether a caller may send to the target of a delivery."""
        try:
            self._check_target(parse_umo(row.target), reach)
        except ApiError:
            return False
        return True

    def _check_target(self, umo: Umo, reach: Reach) -> None:
        reach.check_target(umo.platform_id, str(umo))
        if umo.platform_id != WEBCHAT:
            reach.rules.check_session(str(umo))  # its conversation is the session of this name
            return
        username, session_id = split_webchat(umo.session_id)
        reach.check_web_session(session_id, username or self._find_owner(session_id))

    def _find_owner(self, session_id: str) -> str:
        with self._store.read() as db:
            session = sessions.find_session(db, session_id)
        return NOBODY if session is None else session.creator

    def _wait(self, outcomes: list[Outcome]) -> list[Outcome]:
        ids = [one.delivery_id for one in outcomes if one.delivery_id and one.status == "queued"]
        if not ids:
            return outcomes
        self._outbox.wake()
        rows = self._outbox.waiters.wait(ids, self._settings.im_wait_s)
        return [_update(one, rows.get(one.delivery_id)) for one in outcomes]


def _refuse_with(error: ApiError) -> _Job:
    def job(db: peewee.Database) -> tuple[Outcome, None]:
        raise error

    return job


def _update(outcome: Outcome, row: DeliveryRow | None) -> Outcome:
    if row is None:
        return outcome
    error = None
    if row.status == "failed":
        error = ApiError(
            "delivery_failed",
            f"Failed to send message: {row.error}",
            headers={"X-Delivery-ID": row.delivery_id},
        )
    return Outcome(outcome.umo, outcome.delivery_id, row.status, error)


def _describe(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "umo": outcome.umo,
        "delivery_id": outcome.delivery_id or None,
        "status": outcome.status,
        "code": None if error is None else error.code,
        "message": None if error is None else error.message,
    }
