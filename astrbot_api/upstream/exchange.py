"""The exchange of one turn with an AstrBot: its message, and the answer across interruptions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..agent.cancel import Cancellation
from ..config.upstream import UpstreamConfig
from ..db.attachments import AttachmentRow
from ..errors import ProviderError
from ..files.attachments import Readable
from ..runtime.outbound import Call, OutboundError
from .client import AstrBotClient
from .reading import AnswerPart, AnswerReader
from .stored import find_answer, find_turn, list_objects
from .transport import UpstreamError, UpstreamRefusal

log = logging.getLogger(__name__)

#: First and maximum pause between lookups of an interrupted answer. The pause doubles.
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 5.0

#: Time limit for stopping a run at AstrBot, and for its stream to end after that, in
#: seconds.
_STOP_S = 10.0
_END_S = 3.0

#: Maximum number of attempts to send a message that did not reach AstrBot.
_MAX_SENDS = 3

#: Time after a message in which AstrBot usually starts its model, in seconds.
_BEGIN_S = 20.0

#: Time limit for one request about an interrupted answer, in seconds.
_ASK_S = 30.0

#: Tolerated difference between AstrBot's clock and ours, in seconds.
_CLOCK_S = 2.0

_UNKNOWN = (
    "The connection to AstrBot broke, and it is unknown whether the message was answered. "
    "It was not sent again; look into AstrBot's history, or send it again yourself."
)


class UpstreamOutcomeUnknown(ProviderError):
    """Raised if it is unknown whether a message was answered. It is not sent again."""

    code = "upstream_outcome_unknown"


@dataclass(frozen=True, slots=True)
class UpstreamTurn:
    """A turn that an AstrBot answers.

    :param segments: The message as clients send it, with this server's attachment ids.
    :param payer: The key among which slots are shared fairly.
    :param receive_file: Stores a file of the answer and announces it.
    :param let_pass: Lets later turns of the session begin before this one ends.
    """

    upstream: UpstreamConfig
    username: str
    session_id: str
    segments: Sequence[Mapping[str, Any]]
    sent: Sequence[AttachmentRow]
    payer: str
    cancel: Cancellation
    receive_file: Callable[[Readable, str], object]
    let_pass: Callable[[], None]
    provider_id: str = ""
    model: str = ""
    skip_user_history: bool = False

    @property
    def upstream_username(self) -> str:
        """The caller's username at AstrBot."""
        return self.upstream.name_user(self.username)


class Exchange:
    """The message of one turn, and its answer so far."""

    def __init__(self, turn: UpstreamTurn, client: AstrBotClient) -> None:
        self._turn = turn
        self._client = client
        self._reader = AnswerReader()
        self._sent_at = time.time()
        self._stopping = False

    def iter_parts(self, body: Mapping[str, Any]) -> Iterator[AnswerPart]:
        """Send the message and yield the whole answer, across interruptions."""
        for attempt in range(1, _MAX_SENDS + 1):
            try:
                self._sent_at = time.time()
                connection = Cancellation()
                with (
                    self._turn.cancel.on_cancel(partial(self._end, connection)),
                    Call(connection) as call,
                ):
                    yield from self._read(self._client.iter_chat(body, call))
                broken: UpstreamError | None = None
                break
            except UpstreamRefusal:
                raise
            except UpstreamError as error:
                broken = error
                if error.sent or attempt == _MAX_SENDS:
                    break
            log.warning("retrying a message that did not reach AstrBot: %s", broken)
            self._sleep(_FIRST_PAUSE_S * attempt)
        if not self._reader.ended:
            if broken is not None and not broken.sent:
                raise broken
            log.warning("AstrBot's answer was interrupted: %s", broken or "its stream ended early")
            yield from self._iter_rest()
        yield from self._reader.finish()

    def stop_in_background(self) -> None:
        """Stop the run at AstrBot in the background. Idempotent."""
        if not self._stopping:
            self._stopping = True
            threading.Thread(target=self._stop, name="upstream-stop", daemon=True).start()

    def _stop(self) -> None:
        turn = self._turn
        try:
            with Call(limit_s=_STOP_S) as call:
                self._client.stop_session(turn.session_id, turn.upstream_username, call)
        except (ProviderError, OutboundError) as error:
            log.warning("cannot stop a run at AstrBot: %s", error)

    def _end(self, connection: Cancellation) -> None:
        """End an open stream after the turn was cancelled.

        The stream of a stopped run is read to its end. A new message in the session would get no
        answer from AstrBot before that.
        """
        reason = self._turn.cancel.reason
        if reason != "stopped":
            connection.cancel(reason)
            return
        self.stop_in_background()
        timer = threading.Timer(_END_S, connection.cancel)
        timer.daemon = True
        timer.start()

    def _read(self, events: Iterator[Mapping[str, Any]]) -> Iterator[AnswerPart]:
        for event in events:
            if self._turn.cancel.cancelled:
                continue  # read to the end without showing more
            yield from self._reader.read(event)
            if self._reader.ended:
                return
        self._turn.cancel.raise_if_cancelled()

    def _iter_rest(self) -> Iterator[AnswerPart]:
        """Yield the rest of an interrupted answer, from its run or from the history.

        :raises UpstreamOutcomeUnknown: if AstrBot shows neither.
        """
        refused: set[Callable[..., object]] = set()
        deadline, pause_s = time.monotonic() + self._turn.upstream.timeout_s, _FIRST_PAUSE_S
        while time.monotonic() < deadline:
            sources = [self._resume] if self._reader.run_id else []
            sources += [self._look_up, self._look_up_context]
            source = next((one for one in sources if one not in refused), None)
            if source is None:
                break
            lost = self._is_lost()
            if not (yield from source()):
                refused.add(source)
                continue
            if self._reader.ended:
                return
            if lost and source != self._resume:
                break  # what is not stored now will never be
            self._sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
        raise UpstreamOutcomeUnknown(_UNKNOWN)

    def _is_lost(self) -> bool:
        """Return whether AstrBot restarted, which ends its turns."""
        started = self._client.find_start_time(Call(self._turn.cancel, limit_s=_END_S))
        return started is not None and started > self._sent_at + _CLOCK_S

    def _resume(self) -> Generator[AnswerPart, None, bool]:
        """Read the run's own stream. Return whether another attempt makes sense."""
        turn = self._turn
        try:
            with Call(turn.cancel) as call:
                yield from self._read(
                    self._client.iter_run(self._reader.run_id, turn.upstream_username, call)
                )
        except UpstreamRefusal:
            return False
        except UpstreamError:
            pass  # AstrBot is temporarily unavailable
        return True

    def _look_up(self) -> Generator[AnswerPart, None, bool]:
        """Look up the answer in the session. Return whether another attempt makes sense."""
        turn = self._turn
        try:
            session = self._client.get_session(
                turn.session_id, turn.upstream_username, Call(turn.cancel, limit_s=_ASK_S)
            )
        except UpstreamRefusal:
            return False
        except UpstreamError:
            return True
        rows = list_objects(session.get("history"))
        answer = find_answer(rows, self._reader.checkpoint, self._sent_at - _CLOCK_S)
        if answer and not session.get("is_running"):
            yield from self._reader.read_rows(answer)
            return True
        running = session.get("active_runs")
        for run in running if isinstance(running, list) else ():
            run_id = run.get("run_id") if isinstance(run, dict) else run
            if isinstance(run_id, str) and run_id and not self._reader.run_id:
                self._reader.run_id = run_id
        return True

    def _look_up_context(self) -> Generator[AnswerPart, None, bool]:
        """Look up the answer in the model's context. Return whether another attempt makes sense.

        Commands are not in it. A turn of a model begins with the event ``run_started``.
        """
        turn, checkpoint = self._turn, self._reader.checkpoint
        begun = self._reader.run_id or time.time() < self._sent_at + _BEGIN_S
        if not checkpoint or not begun or self._reader.is_command:
            return False
        try:
            contexts = self._client.list_contexts(
                turn.session_id, turn.upstream_username, Call(turn.cancel, limit_s=_ASK_S)
            )
        except UpstreamRefusal:
            return False
        except UpstreamError:
            return True
        found = [one for messages in contexts if (one := find_turn(messages, checkpoint))]
        if found:
            yield from self._reader.read_context(found[0])
            return self._reader.ended
        return True

    def _sleep(self, pause_s: float) -> None:
        self._turn.cancel.wait(pause_s)
        self._turn.cancel.raise_if_cancelled()
