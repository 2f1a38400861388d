"""HTTP client of an AstrBot.

Works with AstrBot 4.25 to 4.29. Features are detected from the answers, not from the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os.path import splitext
from typing import Any
from urllib.parse import quote, urlencode

from ..db.sessions import WEBCHAT, make_umo
from ..errors import ProviderError
from ..runtime.bounded_json import load_json, load_with_halves
from ..runtime.multipart import FileForm
from ..runtime.outbound import Answer, Call
from .stored import list_objects
from .transport import UpstreamRefusal, UpstreamTransport, iter_events, read_envelope

#: Maximum length of a file's name, in bytes.
_MAX_NAME_BYTES = 200
_MAX_EXTENSION_CHARS = 20

#: Maximum number of contexts of a session in which a turn is looked up.
_MAX_CONTEXTS = 3

#: Timeout of a request without a stream, in seconds.
_ASK_S = 15.0

#: Timeout of a list that a request to this server waits for, in seconds.
_LIST_S = 3.0


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file to upload.

    :param mime: MIME type. AstrBot recognizes images and recordings only by it.
    :param chunks: The bytes, exactly ``size_bytes`` of them.
    """

    name: str
    mime: str
    size_bytes: int
    chunks: Iterable[bytes]


class AstrBotClient(UpstreamTransport):
    """The routes of one AstrBot that this server uses."""

    def iter_chat(self, body: Mapping[str, Any], call: Call) -> Iterator[dict[str, Any]]:
        """Send a message and yield the events of the answer until the stream ends.

        :raises UpstreamRefusal: if AstrBot refuses the message.
        :raises UpstreamError: if there is no response, or it is interrupted.
        """
        answer = self.send("POST", "/api/v1/chat", call, json_body=body)
        yield from iter_events(answer, self._config.timeout_s)

    def iter_run(self, run_id: str, username: str, call: Call) -> Iterator[dict[str, Any]]:
        """Yield the events of an existing run, starting with its current content.

        :raises UpstreamRefusal: if AstrBot has no such run, or denies access.
        :raises UpstreamError: if there is no response, or it is interrupted.
        """
        query = urlencode({"username": username, "snapshot": "true"})
        path = f"/api/v1/chat/runs/{quote(run_id, safe='')}/stream?{query}"
        answer = self.send("GET", path, call)
        yield from iter_events(answer, self._config.timeout_s)

    def get_session(self, session_id: str, username: str, call: Call) -> dict[str, Any]:
        """Return a session: ``{"history": [...], "is_running", "active_runs", ...}``.

        :raises UpstreamRefusal: if AstrBot denies access.
        :raises UpstreamError: if there is no response.
        """
        query = urlencode({"username": username, "page": 1, "page_size": 100})
        path = f"/api/v1/chat/sessions/{quote(session_id, safe='')}?{query}"
        found = self.request("GET", path, call)
        return found if isinstance(found, dict) else {}

    def list_contexts(
        self, session_id: str, username: str, call: Call
    ) -> list[list[dict[str, Any]]]:
        """Return what the model knows of a session: lists of messages, the newest first.

        There is one list for each ``/new``. AstrBot shows them to its owner and to keys with the
        scope ``data``.

        :raises UpstreamRefusal: if AstrBot denies access, or is too old.
        :raises UpstreamError: if there is no response.
        """
        query = urlencode({
            "umo": make_umo(WEBCHAT, session_id, username),
            "include_history": "true", "sort_by": "updated_at", "page_size": _MAX_CONTEXTS,
        })  # fmt: skip
        path = f"/api/v1/conversations?{query}"
        found = self.request("GET", path, call, as_owner=self.has_login)
        contexts = found.get("conversations") if isinstance(found, dict) else None
        return [_parse_messages(one.get("history")) for one in list_objects(contexts)]

    def find_start_time(self, call: Call) -> float | None:
        """Return the time at which AstrBot started, in seconds since 1970, or None if unknown."""
        try:
            found = self.request("GET", "/api/stat/start-time", call)
        except ProviderError:
            return None
        started = found.get("start_time") if isinstance(found, dict) else None
        return float(started) if isinstance(started, (int, float)) else None

    def stop_session(self, session_id: str, username: str, call: Call) -> None:
        """Stop a session's run by a command. AstrBot's route is only for its owner's sessions."""
        body = {"username": username, "session_id": session_id, "message": "/stop",
                "_skip_user_history": True}  # fmt: skip
        for _ in self.iter_chat(body, call):
            pass

    def upload(self, file: UpstreamFile, call: Call) -> str:
        """Upload a file and return AstrBot's attachment id."""
        form = FileForm(
            {}, "file", filename=_fit_name(file.name), mime=file.mime, size_bytes=file.size_bytes,
            iter_bytes=lambda: file.chunks,
        )  # fmt: skip
        data = read_envelope(
            self.send("POST", "/api/v1/file", call, body=form, headers=form.headers)
        )
        if not isinstance(data, dict) or not data.get("attachment_id"):
            raise UpstreamRefusal("AstrBot did not keep the file.")
        return str(data["attachment_id"])

    def open_file(self, attachment_id: str, call: Call) -> Answer:
        """Return a response whose body is an attachment. The caller closes it.

        :raises UpstreamRefusal: if AstrBot does not have the file, or denies access.
        """
        query = urlencode({"attachment_id": attachment_id})
        answer = self.send("GET", f"/api/v1/file?{query}", call)
        if answer.headers.get("Content-Type", "").startswith("application/json"):
            read_envelope(answer)  # raises, except for a JSON file
            raise UpstreamRefusal("AstrBot did not return the file.")
        return answer

    def list_configs(self) -> list[dict[str, Any]]:
        """Return AstrBot's configs: ``[{"id", "name", "is_default"}]``."""
        found = self.request("GET", "/api/v1/configs", Call(limit_s=_LIST_S))
        return [one for one in found["configs"] if isinstance(one, dict) and one.get("id")]

    def list_admins(self, config_id: str) -> list[str]:
        """Return the usernames of a config's administrators, which 4.25 does not show."""
        path = f"/api/v1/config-profiles/{quote(config_id, safe='')}"
        found = self.request("GET", path, Call(limit_s=_LIST_S))
        return [str(one) for one in found["config"]["admins_id"]]

    def list_bots(self) -> list[str]:
        """Return the ids of AstrBot's bots."""
        found = self.request("GET", "/api/v1/im/bots", Call(limit_s=_ASK_S))
        return [str(one) for one in found["bot_ids"]]

    def list_sessions(self, username: str) -> dict[str, Any]:
        """Return the first page of a user's sessions."""
        query = urlencode({"username": username, "page_size": 1})
        found: dict[str, Any] = self.request(
            "GET", f"/api/v1/chat/sessions?{query}", Call(limit_s=_ASK_S)
        )
        return found

    def push(self, umo: str, message: list[dict[str, Any]], call: Call) -> None:
        """Send a message through AstrBot to a conversation of one of its messengers."""
        self.request("POST", "/api/v1/im/message", call, json_body={"umo": umo, "message": message})


def _parse_messages(text: Any) -> list[dict[str, Any]]:
    """Return the messages of a conversation, which AstrBot sends as JSON text."""
    try:
        found = load_json(text, parse=load_with_halves) if isinstance(text, str) else text
    except ValueError:
        return []
    return list_objects(found)


def _fit_name(name: str) -> str:
    """Return a file name that AstrBot can store with its prefix. Its disk allows 255 bytes."""
    stem, extension = splitext(name)
    if len(extension) > _MAX_EXTENSION_CHARS:  # a title with a dot
        stem, extension = name, ""
    room = _MAX_NAME_BYTES - len(extension.encode())
    return stem.encode()[:room].decode(errors="ignore") + extension
