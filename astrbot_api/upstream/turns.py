"""Turns that an AstrBot answers: their queue, their files and the clients."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..agent.steps import AgentEvent, QueuePosition
from ..config.upstream import UpstreamConfig
from ..errors import ProviderError, RunCancelled
from ..files.attachments import Attachments
from .client import AstrBotClient
from .exchange import Exchange, UpstreamTurn
from .files import ExchangedFiles
from .reading import Pause, UpstreamAttachment
from .slots import HostSlots

log = logging.getLogger(__name__)

#: Maximum number of cached clients.
_MAX_CLIENTS = 100

#: Failed downloads after which an answer's other files are left out. Each may take the bytes of the
#: largest upload.
_MAX_FAILED_FILES = 10

#: Lifetime of a cached list of configs, in seconds.
_LIST_KEPT_S = 30.0


class Upstreams:
    """The AstrBots in one application's configs."""

    def __init__(self, slots: HostSlots, attachments: Attachments) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._clients: dict[UpstreamConfig, AstrBotClient] = {}
        self._configs: dict[UpstreamConfig, tuple[list[dict[str, Any]], float]] = {}
        self._files = ExchangedFiles(attachments)

    def get_client(self, upstream: UpstreamConfig) -> AstrBotClient:
        """Return the shared client of an AstrBot."""
        # The config at AstrBot may differ per request, but needs no separate client.
        key = replace(upstream, config_id="", config_name="")
        with self._lock:
            if key not in self._clients:
                while len(self._clients) >= _MAX_CLIENTS:  # old ones are from edited configs
                    self._clients.pop(next(iter(self._clients))).close()
                self._clients[key] = AstrBotClient(key)
            return self._clients[key]

    def list_configs(self, upstream: UpstreamConfig) -> list[dict[str, Any]]:
        """Return the configs of an AstrBot, or an empty list while it does not respond.

        Requested at most once in :data:`_LIST_KEPT_S`, to limit the load on AstrBot.
        """
        now = time.monotonic()
        with self._lock:
            found, asked_at = self._configs.get(upstream, ([], float("-inf")))
            if now - asked_at < _LIST_KEPT_S:
                return found
            self._configs[upstream] = (found, now)  # concurrent requests use the old list
        try:
            found = self.get_client(upstream).list_configs()
        except (ProviderError, KeyError, TypeError) as error:
            log.warning("cannot list the configs of an AstrBot: %s", error)
        with self._lock:
            self._configs[upstream] = (found, now)
        return found

    def answer(self, turn: UpstreamTurn) -> Iterator[AgentEvent]:
        """Yield the answer of an AstrBot. The message is never executed twice.

        :raises ProviderError: if AstrBot refuses or fails, or the result stays unknown.
        :raises RunCancelled: if the turn is cancelled. It is also stopped at AstrBot.
        """
        upstream = turn.upstream
        slots = self._slots.get(upstream.place, upstream.max_concurrent, upstream.max_waiting)
        with slots.take(turn.payer, turn.username, turn.cancel) as waiter:
            for position in slots.iter_positions(waiter, turn.cancel):
                yield QueuePosition(position)
            client = self.get_client(upstream)
            exchange = Exchange(turn, client)
            failed = 0
            try:
                for part in exchange.iter_parts(self._make_body(turn, client)):
                    if isinstance(part, Pause):
                        slots.leave(waiter)
                        turn.let_pass()
                    elif not isinstance(part, UpstreamAttachment):
                        yield part
                    elif failed < _MAX_FAILED_FILES:
                        failed += not self._files.fetch(
                            client, part, turn.receive_file, turn.cancel
                        )
            except RunCancelled as cancelled:
                if cancelled.reason == "stopped":
                    exchange.stop_in_background()
                raise

    def _make_body(self, turn: UpstreamTurn, client: AstrBotClient) -> dict[str, Any]:
        """Return the chat request, after uploading the message's files."""
        upstream, files = turn.upstream, {row.attachment_id: row for row in turn.sent}
        message = []
        for segment in turn.segments:
            row = files.get(str(segment.get("attachment_id", "")))
            if row is not None:
                there = self._files.upload(client, upstream.place, row, turn.cancel)
                segment = {**segment, "attachment_id": there}
            message.append(dict(segment))
        body: dict[str, Any] = {
            "username": turn.upstream_username,
            "session_id": turn.session_id,
            "message": message,
            "enable_streaming": True,
        }
        optional = {
            "config_id": upstream.config_id,
            "config_name": upstream.config_name,
            "selected_provider": turn.provider_id,
            "selected_model": turn.model,
            "_skip_user_history": turn.skip_user_history,
        }
        return body | {key: value for key, value in optional.items() if value}
