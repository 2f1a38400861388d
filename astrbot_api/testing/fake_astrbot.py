"""Fake AstrBot: its HTTP API as recorded from 4.25.1 and 4.29.3, with their faults.

For tests of this server's gateway and of clients::

    with FakeAstrBot(version="4.29") as astrbot:
        answer = requests.post(f"{astrbot.url}/api/v1/chat", headers={"X-API-Key": astrbot.key}, …)

Keywords in a message select the answer, see :mod:`astrbot_api.providers.mock`. ``IMAGE`` adds an
image. ``/ask`` waits for the session's next message. Errors have status 200. In 4.25, there are no
events and paths for runs, no session can be read with a key, and a failing model gives an empty
answer. In 4.29, it gives an error text.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from werkzeug import Response

from ..providers.mock import MockProvider
from .fake_astrbot_run import FakeRun, Version, now
from .fake_platform import FakePlatform, FakeRequest, answer_json

#: Media type of an upload -> type of its attachment. AstrBot does not check the bytes.
_KINDS = {"image": "image", "audio": "record", "video": "video"}

#: Seconds until a run stops after a request to stop it.
_STOPPING_S = 0.3

#: Seconds in which ``/ask`` waits for a message. A real command waits about a minute.
_ASKING_S = 10.0

#: A PNG of one pixel.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)

#: Response to the command ``/help``.
_HELP = "AstrBot v{version}\n/new - Create new conversation\n/stop - Stop agent execution"


class FakeAstrBot(FakePlatform):
    """An AstrBot on a free loopback port.

    :param version: Version to imitate.
    :param max_chats: Number of concurrent chats above which it fails as the real one does.
    :ivar key: An API key.
    :ivar asked: Received messages as ``(username, session_id, text)``.
    :ivar uploaded: Received files as ``(name, type)``.
    """

    def __init__(
        self,
        version: Version = "4.29",
        *,
        max_chats: int = 8,
        scopes: tuple[str, ...] = ("chat", "config", "file", "im"),
    ) -> None:
        super().__init__()
        self.version = version
        self.key = "abk_fake"
        self.key_id = "5382ba34-386f-4c82-be80-aec0badbe272"
        self.owner = ("astrbot", "Fake-Passw0rd-123")
        self.scopes = scopes
        self.asked: list[tuple[str, str, str]] = []
        self.stopped: list[str] = []
        self.uploaded: list[tuple[str, str]] = []
        self.max_seen = 0
        #: Time of its start. Later than a turn, if it lost the turn.
        self.started_at = time.time() - 60
        self.configs = [{"id": "default", "name": "default"}, {"id": "7f", "name": "support"}]
        self.bots = ["tg1", "qq1"]
        self.admins = ["astrbot"]
        self._max_chats = max_chats
        self._token = uuid.uuid4().hex
        self._model = MockProvider()
        self._state = threading.Lock()
        self._open = 0
        self._breaks: list[int] = []
        self._sessions: dict[str, dict[str, Any]] = {}
        self._files: dict[str, tuple[str, bytes]] = {}
        self._runs: dict[str, FakeRun] = {}
        self._replayed: dict[str, str] = {}
        self._asking: dict[str, threading.Event] = {}
        self._handlers = {
            "/api/v1/chat": self._chat,
            "/api/v1/chat/sessions": self._list_sessions,
            "/api/v1/file": self._file,
            "/api/v1/configs": self._list_configs,
            "/api/v1/im/bots": lambda request: _ok({"bot_ids": self.bots}),
            "/api/v1/im/message": self._push,
        }
        if version != "4.25":
            self._handlers["/api/v1/conversations"] = self._list_conversations

    def replay(self, path: str, body: str) -> None:
        """Respond to requests to a path with a recorded response of a real AstrBot.

        :param body: A recorded stream or envelope, or empty to end the replay.
        """
        self._replayed[path] = body

    def break_next(self, *after_events: int) -> None:
        """Drop the connections of the next chats after some events. Their runs continue.

        :param after_events: Number of events, one value for each chat.
        """
        with self._state:
            self._breaks.extend(after_events)

    def answer(self, request: FakeRequest) -> Response:
        # Not request.path: a session's id may contain a slash.
        path = urlsplit(request.environ["REQUEST_URI"]).path.rstrip("/")
        if path == "/api/auth/login":
            return self._log_in(request)
        if path == "/api/stat/start-time":
            return _ok({"start_time": int(self.started_at)})
        scope = _scope_of(path)
        refused = self._refuse(request, scope)
        if refused is not None:
            return refused
        if self._replayed.get(path):
            body = self._replayed[path]
            kind = self._sse if body.startswith("data: ") else "application/json"
            return Response(body, content_type=kind)
        if path.startswith(("/api/v1/chat/sessions/", "/api/v1/chat/runs/")):
            return self._serve_newer(request, path)
        if path.startswith("/api/v1/config-profiles/") and self.version != "4.25":
            return _ok({"config": {"admins_id": self.admins}, "metadata": {}})
        handle = self._handlers.get(path)
        return handle(request) if handle else _not_found()

    def _refuse(self, request: FakeRequest, scope: str) -> Response | None:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if sent == self._token and self.version != "4.25":
            return None
        if (request.headers.get("x-api-key") or sent) != self.key:
            return _error("Invalid API key", 401)
        if scope not in self.scopes:
            return _error("Insufficient API key scope", 403)
        return None

    def _log_in(self, request: FakeRequest) -> Response:
        fields = request.read_fields()
        if (fields.get("username"), fields.get("password")) != self.owner:
            return _error("用户名或密码错误", 401 if self.version != "4.25" else 200)
        return _ok({"token": self._token, "username": self.owner[0]})

    def _chat(self, request: FakeRequest) -> Response:
        fields = request.read_fields()
        username, session_id = fields.get("username"), fields.get("session_id")
        if not isinstance(username, str) or not username.strip():
            return _error("Missing key: username" if username is None else "username is empty")
        session_id = session_id or str(uuid.uuid4())
        message = fields.get("message")
        parts = [{"type": "plain", "text": message}] if isinstance(message, str) else message or []
        with self._state:
            session = self._sessions.setdefault(
                session_id, {"creator": username, "history": [], "created_at": now()}
            )
        if session["creator"] != username:
            return _error("session_id belongs to another username")
        wanted = fields.get("config_id")
        if wanted and wanted not in [one["id"] for one in self.configs]:
            return _error(f"config_id not found: {wanted}")
        text = "".join(str(one.get("text", "")) for one in parts if one.get("type") == "plain")
        if text.strip() == "/stop":
            return self._stop(session_id)
        quoted = "".join(self._quote(one) for one in parts if one.get("type") == "reply")
        run = FakeRun(session_id, username, self.version)
        run.begin(session["history"], parts, skip=bool(fields.get("_skip_user_history")))
        return self._begin(run, username, text, quoted)

    def _begin(self, run: FakeRun, username: str, text: str, quoted: str) -> Response:
        with self._state:
            self.asked.append((username, run.session_id, text))
            broken = self._breaks.pop(0) if self._breaks else None
            self._open += 1
            self.max_seen = max(self.max_seen, self._open)
            overloaded = self._open > self._max_chats
            # A message to a stopping run joins the run and gets no answer.
            joined = any(
                one.session_id == run.session_id and one.stopping and not one.over
                for one in self._runs.values()
            )
        self._runs[run.id] = run
        self._asking.pop(run.session_id, threading.Event()).set()
        threading.Thread(
            target=self._play,
            args=(run, "EMPTY" if joined else text + quoted, overloaded),
            name="fake-astrbot",
            daemon=True,
        ).start()
        return Response(_cut(run.iter_frames(), broken), content_type=self._sse)

    def _quote(self, part: dict[str, Any]) -> str:
        """Return a quote as AstrBot's model sees it: of any user's message with that number."""
        rows = (row for one in self._sessions.values() for row in one["history"])
        found = next((row for row in rows if str(row["id"]) == str(part["message_id"])), None)
        said = part.get("selected_text") or "[Empty Text]"
        if found is not None and not part.get("selected_text"):
            texts = (str(one.get("text", "")) for one in found["content"]["message"])
            said = f"({found['sender_id']}): {''.join(texts)}"
        return f"\n<Quoted Message>\n{said}\n</Quoted Message>"

    @property
    def _sse(self) -> str:
        return "text/event-stream" + ("" if self.version == "4.25" else "; charset=utf-8")

    def _play(self, run: FakeRun, text: str, overloaded: bool) -> None:
        try:
            if overloaded:
                run.say("Error occurred while processing agent request: QueuePool limit of size 5 "
                        "overflow 10 reached, connection timed out, timeout 30.00")  # fmt: skip
                run.complete()
            elif text.startswith("/help"):
                run.say(_HELP.format(version=self.version), streaming=False)
            elif text == "/ask":
                run.say("Your name?", streaming=False)
                run.save()
                asking = self._asking.setdefault(run.session_id, threading.Event())
                if not asking.wait(_ASKING_S):
                    run.say("Too late.", streaming=False)
            else:
                picture = None
                if "IMAGE" in text.split():
                    picture = self.keep("picture.png", PICTURE)
                run.answer(text, self._model, picture)
        finally:
            with self._state:
                self._open -= 1
            run.finish()

    def _list_sessions(self, request: FakeRequest) -> Response:
        username = request.args.get("username")
        if not username:
            return _error("Missing key: username")
        mine = [
            {"session_id": key, "platform_id": "webchat", "creator": one["creator"]}
            for key, one in self._sessions.items() if one["creator"] == username
        ]  # fmt: skip
        return _ok({"sessions": mine, "page": 1, "page_size": 20, "total": len(mine)})

    def _serve_newer(self, request: FakeRequest, path: str) -> Response:
        """Serve paths that 4.25 lacks and that newer versions restrict to the owner."""
        if self.version == "4.25":
            return _not_found()
        kind, name, *_ = path.removeprefix("/api/v1/chat/").split("/")
        name = unquote(name)
        run = self._runs.get(name) if kind == "runs" else None
        session_id = run.session_id if run else name
        session = self._sessions.get(session_id)
        if session is None:
            return _error("Chat run is unavailable" if kind == "runs" else "Session not found")
        by_owner = request.headers.get("authorization") == f"Bearer {self._token}"
        if session["creator"] != (self.owner[0] if by_owner else f"api_key:{self.key_id}"):
            return _error("Chat run is unavailable" if kind == "runs" else "Permission denied")
        if run is not None:
            return Response(run.iter_resumed(), content_type=self._sse)
        runs = [one.id for one in self._runs.values() if one.session_id == name and not one.over]
        return _ok({
            "session": {"session_id": name, "creator": session["creator"]},
            "history": session["history"], "total": len(session["history"]), "page": 1,
            "page_size": 1000, "has_more": False, "is_running": bool(runs), "active_runs": runs,
        })  # fmt: skip

    def _list_configs(self, request: FakeRequest) -> Response:
        return _ok({"configs": [{**one, "path": f"data/{one['id']}.json"} for one in self.configs]})

    def _list_conversations(self, request: FakeRequest) -> Response:
        session_id = request.args.get("umo", "").rpartition("!")[2]
        runs = [one for one in self._runs.values() if one.session_id == session_id]
        history = [message for run in runs for message in run.context]
        found = [{"cid": session_id, "history": json.dumps(history)}] if runs else []
        return _ok({"conversations": found})

    def _stop(self, session_id: str) -> Response:
        found = [r for r in self._runs.values() if r.session_id == session_id and not r.over]
        for run in found:
            run.stopping = True
            threading.Timer(_STOPPING_S, run.cancel.cancel).start()
        self.stopped.append(session_id)
        run = FakeRun(session_id, "", self.version)
        run.say("已停止", streaming=False)
        run.finish()
        return Response(run.iter_frames(), content_type=self._sse)

    def _file(self, request: FakeRequest) -> Response:
        if request.method == "GET":
            found = self._files.get(request.args.get("attachment_id", ""))
            if found is None:
                return _error("Attachment not found")
            return Response(found[1], mimetype="application/octet-stream")
        file = request.read_fields().get("file")
        if file is None:
            return _error("Missing key: file")
        attachment_id = self.keep(file.filename, file.data)
        kind = _KINDS.get(file.content_type.partition("/")[0], "file")
        self.uploaded.append((file.filename, kind))
        return _ok({"attachment_id": attachment_id, "filename": file.filename, "type": kind})

    def keep(self, name: str, data: bytes) -> str:
        """Store a file and return its id."""
        attachment_id = str(uuid.uuid4())
        self._files[attachment_id] = (name, data)
        return attachment_id

    def find_file(self, attachment_id: str) -> tuple[str, bytes] | None:
        """Return the name and bytes of an uploaded file, or None."""
        return self._files.get(attachment_id)

    def list_files(self) -> list[tuple[str, bytes]]:
        """Return the names and bytes of all files."""
        return list(self._files.values())

    def _push(self, request: FakeRequest) -> Response:
        fields = request.read_fields()
        umo = str(fields.get("umo", ""))
        platform = umo.partition(":")[0]
        if platform not in (*self.bots, "webchat"):
            return _error(f"Bot not found or not running for platform: {platform}")
        self.accept({"umo": umo, "message": fields.get("message")})
        return _ok({})


def _cut(frames: Iterator[bytes], after: int | None) -> Iterator[bytes]:
    """Yield frames, and raise after ``after`` frames to drop the connection."""
    for number, frame in enumerate(frames):
        if after is not None and number >= after:
            raise ConnectionAbortedError
        yield frame


def _scope_of(path: str) -> str:
    if path.startswith("/api/v1/im/"):
        return "im"
    if path.startswith("/api/v1/file"):
        return "file"
    if path.startswith("/api/v1/conversations"):
        return "data"
    return "config" if path.startswith("/api/v1/config") else "chat"


def _ok(data: Any) -> Response:
    return answer_json({"status": "ok", "message": None, "data": data})


def _not_found() -> Response:
    return Response("不存在的路由", content_type="text/html")


def _error(message: str, status: int = 200) -> Response:
    return answer_json({"status": "error", "message": message, "data": None}, status)
