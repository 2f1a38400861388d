"""Sends recorded requests byte for byte, and normalises responses for comparison."""

from __future__ import annotations

import http.client
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrbot_api.config.loading import load_settings
from astrbot_api.db.models.sessions import ChatSession, Message
from astrbot_api.db.store import open_store

from ..servers import Server

RECORDINGS = Path(__file__).parent / "recordings"

#: Values that differ in each run.
_VOLATILE = {
    "message_id", "llm_checkpoint_id", "created_at", "updated_at", "start_time", "end_time",
    "time_to_first_token", "ts", "finished_ts", "id", "key_prefix", "expires_at", "api_key",
}  # fmt: skip

#: The picture of the recordings, one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154"
    "78da6364f8cf500f00038601805a347d6b0000000049454e44ae426082"
)

#: Bytes that are not UTF-8, for which the recorder wrote U+FFFD. The recorded SHA-256 of the
#: downloads prove that these are correct.
_LOST = (
    PNG,
    b"@\x1f\x00\x00\x80>\x00\x00",  # sample and byte rate of a WAV file
    b"mdat\xde\xad\xbe\xef",
)

#: Fields that the recorded version lacks. ``test_newer.py`` replays a version that has them.
_NEWER = {
    # 22: fields of an answer that only this server has.
    "finish_reason", "provider", "model", "estimated_tokens",
    "stored_filename", "current_context_tokens", "change_pwd_hint", "md5_pwd_hint",
    "password_upgrade_required",
}  # fmt: skip

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Recording:
    """One recorded exchange."""

    group: str
    case: str
    head: str
    body: str
    status: int
    answer: str
    content_type: str
    end: str
    stored: list[str]

    @property
    def is_stream(self) -> bool:
        """Whether the recorded answer is a stream of events."""
        return self.answer.startswith("data: ")

    @property
    def is_download(self) -> bool:
        """Whether the recorded response is an attachment, which alone may be cached."""
        return (
            self.group == "40-file"
            and self.status == 200
            and self.head[:4] != "POST"
            and (self.content_type != "application/json")
        )


def load_recordings(group: str) -> list[Recording]:
    """Return the exchanges of one group, in recorded order."""
    lines = (RECORDINGS / f"{group}.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Recording(
            group=group,
            case=one["case"],
            head=one["request_head"],
            body=one["request_body"] or "",
            status=one["status"],
            answer=one["response_body"],
            content_type=_find_content_type(one["response_head"]),
            end=one.get("end", ""),
            stored=one.get("stored") or [],
        )
        for one in map(json.loads, lines)
    ]


def _find_content_type(head: str | None) -> str:
    found = re.search(r"^content-type: (.*?)\r?$", head or "", re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


@dataclass(frozen=True)
class Answer:
    """A response of the server."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes


def send(server: Server, recording: Recording, placeholders: dict[str, str]) -> Answer:
    """Send a recorded request unchanged and read the whole response."""
    head = recording.head
    for name, value in placeholders.items():
        head = head.replace(f"{{{{{name}}}}}", value)
    # The recorder wrote U+FFFD for each byte that is not UTF-8.
    raw_head = head.replace("Host: 127.0.0.1:6185", f"Host: 127.0.0.1:{server.port}").encode()
    raw_head = raw_head.replace("\ufffd".encode(), b"\xff")
    text = _whole_body(recording).replace("{{PASSWORD}}", placeholders.get("PASSWORD", ""))
    body = text.encode()
    for lost in _LOST:
        body = body.replace(lost.decode("utf-8", "replace").encode(), lost)
    body = body.replace("\ufffd".encode(), b"\xff")
    with server.connect() as connection:
        connection.sendall(raw_head + b"\r\n\r\n" + body)
        # It reads no body after HEAD.
        response = http.client.HTTPResponse(connection, method=head.partition(" ")[0])
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, headers.get("content-type", ""), headers, response.read())
        response.close()
    return answer


def _whole_body(recording: Recording) -> str:
    """Return the body. The recorder kept only 20,000 characters of a body of ``x``."""
    announced = re.search(r"Content-Length: (\d+)", recording.head)
    if recording.case != "message-1MB" or announced is None:
        return recording.body
    end = '"}'
    missing = int(announced[1]) - len(recording.body) - len(end)
    return recording.body + "x" * missing + end


def events_of(stream: str) -> list[dict[str, Any]]:
    """Return the events of a stream, normalised for comparison."""
    found = []
    for line in stream.splitlines():
        if line.startswith("data: "):
            event = json.loads(line[6:])
            if event.get("chain_type") in ("tool_call", "tool_call_result"):
                event["data"] = json.loads(event["data"])
            found.append(comparable(event))
    return found


def comparable(value: Any, key: str = "") -> Any:
    """Replace values that differ in each run, and drop fields that newer versions added."""
    if key in _VOLATILE and value is not None:
        return f"<{key}>"
    if isinstance(value, dict):
        known = {name: inner for name, inner in value.items() if name not in _NEWER}
        return {name: comparable(inner, name) for name, inner in known.items()}
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    if isinstance(value, str):
        return _UUID.sub("<uuid>", value)
    return value


def recorded_rows(recording: Recording) -> list[dict[str, Any]]:
    """Return the messages that the recorded server stored after the exchange."""
    rows = []
    for text in recording.stored:
        if text.startswith("history: "):
            _, platform, session, sender, name, content, _ = json.loads(text[9:])
            rows.append(_row(platform, session, sender, name, content))
    return rows


def recorded_session(recording: Recording) -> list[Any] | None:
    """Return ``[session_id, platform, creator, display_name, is_group]``."""
    for text in recording.stored:
        if text.startswith("session: "):
            return list(json.loads(text[9:]))
    return None


def stored_rows(data_dir: Path, session_id: str) -> list[dict[str, Any]]:
    """Return the messages of a session in our database."""
    query = Message.select(
        Message.platform_id,
        ChatSession.session_id,
        Message.sender_id,
        Message.sender_name,
        Message.content,
    ).join(ChatSession, on=(ChatSession.id == Message.session))
    found = _select(
        data_dir, query.where(ChatSession.session_id == session_id).order_by(Message.id)
    )
    return [_row(*row) for row in found]


def stored_session(data_dir: Path, session_id: str) -> list[Any] | None:
    """Return ``[session_id, platform, creator, display_name, is_group]``."""
    query = ChatSession.select(
        ChatSession.session_id,
        ChatSession.platform_id,
        ChatSession.creator,
        ChatSession.display_name,
        ChatSession.is_group,
    )
    found = _select(data_dir, query.where(ChatSession.session_id == session_id))
    return list(found[0]) if found else None


def _select(data_dir: Path, query: Any) -> list[tuple[Any, ...]]:
    """Query the server's database. ``make deploy-check`` also uses PostgreSQL."""
    store = open_store(load_settings({"data_dir": data_dir}))
    try:
        with store.read() as db:
            return list(query.tuples().execute(db))
    finally:
        store.close()


def _row(platform: str, session: str, sender: str, name: str, content: str) -> dict[str, Any]:
    return {
        "platform": platform,
        "session": _UUID.sub("<uuid>", session),
        "sender": sender,
        "name": name,
        "content": comparable(json.loads(content)),
    }
