"""Proactive messages: accepted for a UMO, pushed or put into the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ..chat.pushing import PushedMessage, Pusher
from ..config.settings import Settings
from ..db import deliveries, sessions
from ..db.attachments import find_attachments
from ..db.deliveries import DeliveryRow
from ..db.sessions import NOBODY, WEBCHAT
from ..db.store import Store
from ..deliveries.outbox import Outbox
from ..errors import ApiError
from ..messages import Media, Segment, parse_im_message, resolve_media
from ..runtime.tracing import current_span
from .bots import Bots
from .umo import Umo, parse_umo, split_webchat

#: Called with a UMO, and for the web chat its session and whose that is (empty:
#: nobody's); raises :class:`~astrbot_api.errors.ApiError` where the caller may not send.
CheckTarget = Callable[[Umo, str, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message to one UMO.

    :param status: ``queued``, ``sending``, ``sent`` or ``failed``.
    :param error: Why it was refused, or failed.
    """

    umo: str
    delivery_id: str = ""
    status: str = "queued"
    error: ApiError | None = None


#: Called in the transaction that accepts messages, with what became of each so far.
OnAccepted = Callable[[peewee.Database, list[Outcome]], None]

#: Stores a message for one target.
_Job = Callable[[peewee.Database], tuple[Outcome, PushedMessage | None]]


class ProactiveMessages:
    """Takes messages that no turn asked for."""

    def __init__(
        self, settings: Settings, store: Store, bots: Bots, pusher: Pusher, outbox: Outbox
    ) -> None:
        self._settings = settings
        self._store = store
        self._bots = bots
        self._pusher = pusher
        self._outbox = outbox

    def send(
        self,
        umos: Sequence[str],
        message: Any,
        *,
        key_id: str | None,
        check: CheckTarget,
        on_accepted: OnAccepted = lambda db, outcomes: None,
    ) -> list[Outcome]:
        """Accept a message for each UMO and wait a while for what becomes of it.

        All of them in one transaction: a crash leaves all or none.

        :param message: A string or a list of segments, unchecked.
        :param check: Refuses a target that the caller may not send to.
        :param on_accepted: Called in that transaction, with what became of each.
        :returns: One outcome a UMO, in their order.
        :raises ApiError: for a message that is wrong for all of them.
        """
        parsed = [self._parse(umo) for umo in umos]
        if len(parsed) == 1 and isinstance(parsed[0], ApiError):
            raise parsed[0]
        segments = parse_im_message(
            message,
            max_chars=self._settings.max_message_chars,
            max_segments=self._settings.max_segments,
        )
        jobs = [self._prepare(umo, segments, key_id, check) for umo in parsed]

        def accept(db: peewee.Database) -> tuple[list[Outcome], list[PushedMessage]]:
            outcomes, pushed = [], []
            for text, job in zip(umos, jobs, strict=True):
                try:
                    outcome, message = job(db)
                    outcomes.append(outcome)
                    pushed += [message] if message else []
                except ApiError as error:  # before it has written anything
                    outcomes.append(Outcome(text, status="failed", error=error))
            on_accepted(db, outcomes)
            return outcomes, pushed

        outcomes, pushed = self._store.write(accept)
        for one in pushed:
            self._pusher.announce(one)
        return self._wait(outcomes)

    @staticmethod
    def _parse(umo: str) -> Umo | ApiError:
        try:
            return parse_umo(umo)
        except ApiError as error:
            return error

    def _prepare(
        self, umo: Umo | ApiError, segments: Sequence[Segment], key_id: str | None,
        check: CheckTarget,
    ) -> _Job:  # fmt: skip
        """Check a target, in the request; return the job that stores the message."""
        try:
            if isinstance(umo, ApiError):
                raise umo
            if umo.platform_id == WEBCHAT:
                return self._prepare_push(umo, segments, key_id, check)
            check(umo, "", "")
            self._bots.get_running(umo.platform_id)
        except ApiError as error:
            return _refuse_with(error)
        return self._prepare_delivery(umo, segments, key_id)

    def _prepare_delivery(self, umo: Umo, segments: Sequence[Segment], key_id: str | None) -> _Job:
        # Of the request: the job runs in another thread.
        traceparent = current_span().to_traceparent()

        def job(db: peewee.Database) -> tuple[Outcome, None]:
            waiting = deliveries.count_line(db, str(umo), self._settings.im_max_queued)
            if waiting >= self._settings.im_max_queued:
                raise ApiError(
                    "too_many_deliveries",
                    f"{waiting} messages to this target are waiting; try again later",
                    headers={"Retry-After": "30"},
                )
            delivery_id = deliveries.add_delivery(
                db, platform_id=umo.platform_id, target=str(umo), key_id=key_id,
                content=[one.to_wire() for one in _resolve(db, segments)],
                traceparent=traceparent,
            )  # fmt: skip
            return Outcome(str(umo), delivery_id), None

        return job

    def _prepare_push(
        self, umo: Umo, segments: Sequence[Segment], key_id: str | None, check: CheckTarget
    ) -> _Job:
        username, session_id = split_webchat(umo.session_id)
        if len(session_id) > self._settings.max_session_id_chars:
            raise ApiError(
                "invalid_request",
                f"Invalid umo: its session has {len(session_id)} characters; "
                f"at most {self._settings.max_session_id_chars} are allowed",
            )
        if len(username) > self._settings.max_username_chars:
            raise ApiError("invalid_request", "Invalid umo: its username is too long")
        owner = username or self._find_owner(session_id)
        check(umo, session_id, owner)

        def job(db: peewee.Database) -> tuple[Outcome, PushedMessage]:
            pushed = self._pusher.push_in(
                db, username=owner, session_id=session_id, segments=segments
            )
            delivery_id = deliveries.add_sent(
                db, platform_id=WEBCHAT, target=str(umo), key_id=key_id,
                # The message itself is in the session.
                content=[], platform_ids=[str(pushed.id)],
            )  # fmt: skip
            return Outcome(str(umo), delivery_id, "sent"), pushed

        return job

    def _find_owner(self, session_id: str) -> str:
        with self._store.read() as db:
            session = sessions.find_session(db, session_id)
        return NOBODY if session is None else session.creator

    def _wait(self, outcomes: list[Outcome]) -> list[Outcome]:
        ids = [one.delivery_id for one in outcomes if one.delivery_id and one.status == "queued"]
        if not ids:
            return outcomes
        self._outbox.wake()
        rows = self._outbox.wait(ids, self._settings.im_wait_s)
        return [_update(one, rows.get(one.delivery_id)) for one in outcomes]


def _refuse_with(error: ApiError) -> _Job:
    def job(db: peewee.Database) -> tuple[Outcome, None]:
        raise error

    return job


def _resolve(db: peewee.Database, segments: Sequence[Segment]) -> list[Segment]:
    rows = find_attachments(db, [one.attachment_id for one in segments if isinstance(one, Media)])
    found = {key: Media(key, row.type, row.name) for key, row in rows.items()}
    return resolve_media(segments, found)


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
