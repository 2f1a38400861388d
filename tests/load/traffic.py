"""Clients of every kind that run at once and record acknowledged data."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import urllib3

from ..servers import iter_events
from .ledger import KeyState, Ledger, Place
from .world import World, parse_json

#: Seconds for which a client repeats a request.
_PATIENCE_S = 60.0

_LOST = (urllib3.exceptions.HTTPError, OSError)

#: Statuses after which the same request may be sent again.
_TRANSIENT = (409, 429, 503)


class Traffic:
    """Some threads for each kind of client, until :meth:`stop`.

    :param size: Load; 1 is the load that two cores can carry beside the server.
    """

    def __init__(self, world: World, ledger: Ledger, size: float = 1.0, seed: int = 1) -> None:
        self._world, self._ledger = world, ledger
        self._stopped = threading.Event()
        self._chance = random.Random(seed)
        self._threads: list[threading.Thread] = []
        for work, count in (
            (self._chat, 8), (self._chat_blocking, 3), (self._push, 3), (self._upload, 3),
            (self._manage_keys, 2),
        ):  # fmt: skip
            for _ in range(max(1, round(count * size))):
                thread = threading.Thread(target=self._repeat, args=(work,), daemon=True)
                self._threads.append(thread)

    def start(self) -> None:
        """Start all clients."""
        self._world.log_in()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let all clients finish their current work, and wait for them."""
        self._stopped.set()
        until = time.monotonic() + 2 * _PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.1, until - time.monotonic()))
        hung = sum(thread.is_alive() for thread in self._threads)
        if hung:
            self._ledger.faults.append(f"{hung} clients have had no answer to their last request")

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                work()
            except Exception as error:
                self._ledger.faults.append(f"{work.__name__}: {type(error).__name__}: {error}")

    def _send(
        self, method: str, path: str, text: str = "", *, again: bool = False, **options: Any
    ) -> urllib3.BaseHTTPResponse | None:
        """Send a request and return its response, or None if it was not acknowledged.

        :param text: The text of the request, for the ledger.
        :param again: Whether to repeat it under one ``Idempotency-Key`` until it is answered.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4())} if again else {}
        until = time.monotonic() + _PATIENCE_S
        while True:
            status = 503
            try:
                answer = self._world.server.request(
                    method, f"/api/v1{path}", self._world.key, headers=headers, **options
                )
                if answer.status < 300:
                    return answer
                status = answer.status
                said = self._ledger.note_error(path, status, parse_json(answer.data))
                if "nothing was stored" in said and text and not again:
                    self._ledger.refused.add(text)
                if "X-Run-ID" in answer.headers:
                    return None  # the turn was started and has failed
            except _LOST as error:
                self._ledger.note_cut(error)
            if not again or status not in _TRANSIENT or time.monotonic() > until:
                if again:
                    self._ledger.faults.append(f"{path}: {status} to the last of many attempts")
                return None
            time.sleep(self._chance.uniform(0.05, 0.3))

    def _begin(self, words: str) -> tuple[str, Place]:
        """Return a unique text and a session for it."""
        text = f"{words} {uuid.uuid4().hex}"
        self._ledger.sent.add(text)
        name = self._chance.choice(["own", "shared"])
        number = uuid.uuid4().hex if name == "own" else str(self._chance.randrange(5))
        username = f"user{self._chance.randrange(3)}" if name == "own" else f"owner{number}"
        return text, Place(username, f"{name}-{number}")

    def _chat(self) -> None:
        """Read a stream, and resume it until its end."""
        words = self._chance.choice(["ECHO", "DELAY=30 N=30", "DELAY=5 N=20", "DELAY=200 N=8"])
        text, place = self._begin(words)
        body = {
            "username": place.username, "session_id": place.session_id, "message": text,
            "enable_streaming": self._chance.random() < 0.8,
        }  # fmt: skip
        opened = self._send(
            "POST", "/chat", text, again=self._chance.random() < 0.3, json=body,
            preload_content=False,
        )  # fmt: skip
        if opened is None:
            return
        events = self._read(opened)
        self._note_events(text, place, events)
        run_id = _find_run(events)
        if run_id is not None:
            self._ledger.runs[run_id] = events
            self._finish(run_id, text, place, events)

    def _read(self, opened: urllib3.BaseHTTPResponse) -> list[dict[str, Any]]:
        """Return the events of a stream until its end or interruption."""
        events: list[dict[str, Any]] = []
        try:
            # Events before an interruption are kept.
            events.extend(iter_events(opened))
        except _LOST as error:
            self._ledger.note_cut(error)
        finally:
            opened.close()
        return events

    def _finish(self, run_id: str, text: str, place: Place, events: list[dict[str, Any]]) -> None:
        """Resume a stream until its last event."""
        until = time.monotonic() + _PATIENCE_S
        while not events or events[-1]["type"] != "end":
            if time.monotonic() > until:
                self._ledger.faults.append(f"the stream of run {run_id} reaches no end")
                return
            opened = self._send("GET", f"/chat/runs/{run_id}/stream?after=0", preload_content=False)
            if opened is None:
                time.sleep(0.2)
                continue
            events = self._read(opened)
        self._note_events(text, place, events)
        for event in events:
            if event["type"] == "error":
                self._ledger.errors[f"event {event['code']}"] += 1

    def _note_events(self, text: str, place: Place, events: list[dict[str, Any]]) -> None:
        """Record the acknowledged data of a stream."""
        whole = ""
        for event in events:
            if event["type"] == "user_message_saved":
                self._ledger.texts[text] = (place, event["data"]["id"])
            elif event["type"] == "complete":
                whole = event["data"]
            elif event["type"] == "message_saved" and event["data"]["llm_checkpoint_id"]:
                self._ledger.replies[event["data"]["id"]] = (place, whole)

    def _chat_blocking(self) -> None:
        text, place = self._begin("ECHO")
        body = {
            "username": place.username, "session_id": place.session_id, "message": text,
            "response_mode": "blocking",
        }  # fmt: skip
        answer = self._send("POST", "/chat", text, again=self._chance.random() < 0.3, json=body)
        if answer is not None:
            data = parse_json(answer.data)["data"]
            self._ledger.replies[data["message_id"]] = (place, data["message"])

    def _push(self) -> None:
        text, place = self._begin("news")
        umo = f"webchat:FriendMessage:webchat!{place.username}!{place.session_id}"
        body = {"umo": umo, "message": text}
        again = self._chance.random() < 0.5
        answer = self._send("POST", "/im/message", text, again=again, json=body)
        if answer is not None:
            self._ledger.texts[text] = (place, 0)

    def _upload(self) -> None:
        data = os.urandom(self._chance.choice([100, 20_000, 500_000]))
        again = self._chance.random() < 0.5
        answer = self._send("POST", "/file", again=again, fields={"file": ("a.bin", data)})
        if answer is not None:
            attachment_id = parse_json(answer.data)["data"]["attachment_id"]
            self._ledger.uploads[attachment_id] = hashlib.sha256(data).hexdigest()

    def _manage_keys(self) -> None:
        """Create a key, then revoke, rotate or keep it."""
        made = self._administer("create", {"name": "torture", "scopes": ["im"]})
        if made is None:
            return
        key = self._ledger.keys[made["key_id"]] = KeyState(made["api_key"])
        fate = self._chance.choice(["keep", "revoke", "rotate"])
        if fate == "keep":
            return
        key.works = None
        changed = self._administer(fate, {"key_id": made["key_id"]})
        if changed is None:
            return
        key.works = False
        if fate == "rotate":
            self._ledger.keys[changed["key_id"]] = KeyState(changed["api_key"])

    def _administer(self, action: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = self._world.administer(action, body)
        except _LOST as error:
            self._ledger.note_cut(error)
            time.sleep(0.1)
            return None
        said = parse_json(answer.data)
        if answer.status != 200:
            self._ledger.note_error(f"apikey/{action}", answer.status, said)
            time.sleep(0.1)
            return None
        self._ledger.key_changes += 1
        data: dict[str, Any] = said["data"]
        return data


@contextmanager
def traffic(world: World, ledger: Ledger, size: float = 1.0) -> Iterator[None]:
    """Run clients during the block. They finish their work after it."""
    clients = Traffic(world, ledger, size)
    clients.start()
    try:
        yield
    finally:
        clients.stop()


def _find_run(events: list[dict[str, Any]]) -> str | None:
    for event in events:
        if event["type"] == "run_started":
            return str(event["data"]["run_id"])
    return None
