"""Checks through the API and in the database that acknowledged data exists exactly once."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import urllib3

from ..servers import parse_events
from .ledger import Ledger, Place
from .world import LEASE_S, World, parse_json

#: Seconds until the runs of dead workers must have ended.
_SETTLE_S = LEASE_S * 4 + 20

_MESSAGES = "SELECT m.id, m.content FROM message m"

_ACTIVE = "SELECT COUNT(*) FROM run WHERE status IN ('queued', 'running')"


def verify(world: World, ledger: Ledger, *, keep_logs: bool = True) -> None:
    """Add losses, duplicates and unfinished runs to the ledger's faults.

    :param keep_logs: Whether a resumed stream must begin with the events that clients saw.
    """
    _wait_until_settled(world, ledger)
    _verify_rows(world, ledger)
    with ThreadPoolExecutor(8) as pool:
        places = {place for place, _ in (*ledger.texts.values(), *ledger.replies.values())}
        shown = dict(zip(places, pool.map(lambda place: _read_session(world, place), places),
                         strict=True))  # fmt: skip
        _verify_messages(ledger, shown)
        for faults in (
            pool.map(lambda item: _verify_upload(world, *item), ledger.uploads.items()),
            pool.map(lambda item: _verify_key(world, ledger, item), ledger.keys),
            pool.map(lambda item: _verify_run(world, *item, keep_logs), ledger.runs.items()),
        ):
            ledger.faults.extend(fault for fault in faults if fault)
    _verify_key_list(world, ledger)


def _wait_until_settled(world: World, ledger: Ledger) -> None:
    """Wait until no run is active."""
    until = time.monotonic() + _SETTLE_S
    store = world.open_store()
    try:
        while True:
            with store.read() as db:
                active = db.execute_sql(_ACTIVE).fetchone()[0]
            if not active:
                return
            if time.monotonic() > until:
                ledger.faults.append(f"{active} runs have no end after {_SETTLE_S} s")
                return
            time.sleep(0.1)
    finally:
        store.close()


def _verify_rows(world: World, ledger: Ledger) -> None:
    """Check that no text is stored twice, and that no rejected text is stored."""
    store = world.open_store()
    with store.read() as db:
        rows = db.execute_sql(_MESSAGES).fetchall()
    store.close()
    count: Counter[str] = Counter()
    for _, content in rows:
        text = _text_of(json.loads(content))
        if text in ledger.sent:
            count[text] += 1
    for text, times in count.items():
        if times > 1:
            ledger.faults.append(f"stored {times} times: {text}")
        if text in ledger.refused:
            ledger.faults.append(f"stored, though the answer said that it was not: {text}")


def _read_session(world: World, place: Place) -> list[dict[str, Any]]:
    """Return all messages of a session, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        path = (
            f"/api/v1/chat/sessions/{place.session_id}/messages"
            f"?username={place.username}&order=asc&limit=200{cursor}"
        )
        answer = _get(world, path, world.key)
        if answer.status != 200:
            return found
        data = parse_json(answer.data)["data"]
        found += data["messages"]
        if data["next_cursor"] is None:
            return found
        cursor = f"&cursor={data['next_cursor']}"


def _verify_messages(ledger: Ledger, shown: dict[Place, list[dict[str, Any]]]) -> None:
    texts: dict[Place, Counter[str]] = {}
    replies: dict[Place, dict[int, str]] = defaultdict(dict)
    for place, messages in shown.items():
        texts[place] = Counter(_text_of(one["content"]) for one in messages)
        numbers = [one["id"] for one in messages]
        if numbers != sorted(set(numbers)):
            ledger.faults.append(f"the messages of {place} are out of order")
        for one in messages:
            replies[place][one["id"]] = _text_of(one["content"])
    for text, (place, number) in ledger.texts.items():
        if texts[place][text] != 1:
            ledger.faults.append(f"lost: {text} is {texts[place][text]} times in {place}")
        elif number and replies[place].get(number) != text:
            ledger.faults.append(f"message {number} is not {text}")
    for number, (place, text) in ledger.replies.items():
        if number not in replies[place]:
            ledger.faults.append(f"lost: the reply {number} in {place}")
        elif replies[place][number] != text:
            ledger.faults.append(f"the reply {number} is not what was streamed: {text}")


def _verify_upload(world: World, attachment_id: str, sha256: str) -> str:
    answer = _get(world, f"/api/v1/file?attachment_id={attachment_id}", world.key)
    if answer.status != 200:
        return f"lost: the upload {attachment_id}: {answer.status}"
    if hashlib.sha256(answer.data).hexdigest() != sha256:
        return f"the upload {attachment_id} has other bytes"
    return ""


def _verify_key(world: World, ledger: Ledger, key_id: str) -> str:
    key = ledger.keys[key_id]
    if key.works is None:
        return ""
    status = _get(world, "/api/v1/im/bots", key.secret).status
    if status == (200 if key.works else 401):
        return ""
    wanted = "works" if key.works else "does not work any more"
    return f"lost: the key {key_id} {wanted}, was acknowledged; it is answered with {status}"


def _verify_key_list(world: World, ledger: Ledger) -> None:
    headers = {"Authorization": f"Bearer {world.log_in()}"}
    answer = world.server.request("GET", "/api/apikey/list", headers=headers)
    listed = Counter(one["key_id"] for one in parse_json(answer.data)["data"])
    for key_id in ledger.keys:
        if listed[key_id] != 1:
            ledger.faults.append(f"lost: the key {key_id} is {listed[key_id]} times in the list")


def _verify_run(world: World, run_id: str, seen: list[dict[str, Any]], keep_logs: bool) -> str:
    """Check that a run has ended and begins with the events that the client saw."""
    answer = _get(world, f"/api/v1/chat/runs/{run_id}/stream?after=0", world.key)
    if answer.status != 200:
        return f"the stream of run {run_id} is answered with {answer.status}"
    events = parse_events(answer.data)
    if not events or events[-1]["type"] != "end":
        return f"the stream of run {run_id} has no end"
    own = [one for one in seen if _is_of_run(one, run_id)]
    whole = [one for one in events if _is_of_run(one, run_id)]
    if keep_logs and whole[: len(own)] != own:
        differ = [pair for pair in zip_longest(own, whole) if pair[0] != pair[1]]
        return f"the stream of run {run_id} is not what was seen of it: {differ[0]}"
    return ""


def _is_of_run(event: dict[str, Any], run_id: str) -> bool:
    """Return whether an event belongs to the run, not to a pushed message."""
    if event["type"] == "message_saved" and not event["data"]["llm_checkpoint_id"]:
        return False
    return event.get("message_id", run_id) == run_id


def _get(world: World, path: str, key: str) -> urllib3.BaseHTTPResponse:
    return world.server.request("GET", path, key)


def _text_of(content: dict[str, Any]) -> str:
    parts = content.get("message", [])
    return "".join(one["text"] for one in parts if one.get("type") == "plain")
