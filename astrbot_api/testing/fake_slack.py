"""Fake of Slack's Web API and its events.

::

    with FakeSlack() as slack:
        # bots.toml: token, signing_secret as here, base_url = slack.url + "/api"
        headers, body = slack.make_request(slack.make_event("<@U0LAN0Z89> hi"))
        # … posted to /api/v1/hooks/BOT, and then:
        [answer] = slack.wait_for_messages(1)

Source of its checks and responses: https://docs.slack.dev/reference/methods
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

from werkzeug import Response
from werkzeug.utils import redirect

from .fake_platform import FakePlatform, FakeRequest, answer_json, make_digest, make_post

MAX_TEXT_CHARS = 40_000


class FakeSlack(FakePlatform):
    """One bot in one workspace.

    :param token: Required bearer token of calls.
    :param signing_secret: Key of the signatures of events.
    """

    def __init__(
        self,
        token: str = "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
        signing_secret: str = "8f742231b10e8888abcd99yyyzzz85a5",
    ) -> None:
        super().__init__()
        self.token = token
        self.signing_secret = signing_secret
        self.bot_user = "U0LAN0Z89"
        self._files: dict[str, tuple[str, bytes]] = {}
        self._uploads: dict[str, dict[str, Any]] = {}
        #: Channel and ``ts`` of a thread's first message -> all messages of the thread.
        self.threads: dict[tuple[str, str], list[dict[str, Any]]] = {}

    @property
    def base_url(self) -> str:
        """Base URL of the Web API."""
        return f"{self.url}/api"

    def make_event(
        self, text: str, *, channel: str = "C123ABC456", type: str = "app_mention", **event: Any
    ) -> dict[str, Any]:
        """Return the body of an event as in Slack's documentation.

        :param type: ``app_mention`` or ``message``.
        :param event: Keys of the event to add or replace.
        """
        number = next(self._numbers)
        made = {
            "type": type,
            "user": "U061F7AUR",
            "text": text,
            "ts": f"1515449522.{number:06}",
            "channel": channel,
            "event_ts": f"1515449522.{number:06}",
        }
        if channel.startswith("D"):
            made |= {"type": "message", "channel_type": "im"}
        return {
            "token": "ZZZZZZWSxiZZZ2yIvs3peJ",
            "team_id": "T123ABC456",
            "api_app_id": "A123ABC456",
            "event": made | event,
            "type": "event_callback",
            "event_id": f"Ev123ABC{number:03}",
            "event_time": 1515449522016611,
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": "T123ABC456",
                    "user_id": self.bot_user,
                    "is_bot": True,
                }
            ],
        }

    def make_request(
        self,
        body: dict[str, Any],
        *,
        secret: str | None = None,
        now_s: float | None = None,
        retry: int = 0,
    ) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of Slack's request for an event.

        :param now_s: Time of the signature, in seconds since 1970.
        :param retry: Number of the retry, or 0 for the first attempt.
        """
        headers, content = self._sign(*make_post(body), secret, now_s)
        if retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": "http_timeout"}
        return headers, content

    def make_press(
        self, message: dict[str, Any], label: str, *, user: str = "U061F7AUR"
    ) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of Slack's request for a pressed button.

        :param message: The message with the button, from :attr:`messages`.
        """
        buttons = message["blocks"][-1]["elements"]
        button = next(one for one in buttons if one["text"]["text"] == label)
        below = {key: message[key] for key in ("ts", "thread_ts", "text") if key in message}
        payload = {
            "type": "block_actions", "user": {"id": user}, "channel": {"id": message["channel"]},
            "message": below,
            "actions": [{**button, "action_ts": f"{int(time.time())}.{next(self._numbers):06}"}],
        }  # fmt: skip
        content = urlencode({"payload": json.dumps(payload)}).encode()
        return self._sign({"Content-Type": "application/x-www-form-urlencoded"}, content)

    def _sign(
        self,
        headers: dict[str, str],
        content: bytes,
        secret: str | None = None,
        now_s: float | None = None,
    ) -> tuple[dict[str, str], bytes]:
        timestamp = str(int(time.time() if now_s is None else now_s))
        secret = self.signing_secret if secret is None else secret
        headers["X-Slack-Request-Timestamp"] = timestamp
        digest = make_digest(secret, f"v0:{timestamp}:".encode() + content)
        headers["X-Slack-Signature"] = f"v0={digest}"
        return headers, content

    def add_file(self, data: bytes, name: str = "tedair.gif", mime: str = "image/gif") -> Any:
        """Store a file and return its object for ``files`` of an event."""
        file_id = f"F{next(self._numbers):08}"
        self._files[file_id] = (name, data)
        return self._describe(file_id, mime)

    def _describe(self, file_id: str, mime: str = "") -> dict[str, Any]:
        name, data = self._files[file_id]
        url = f"{self.url}/files-pri/T061EG9R6-{file_id}"
        return {
            "id": file_id, "name": name, "title": name, "mimetype": mime,
            "filetype": name.rpartition(".")[2], "size": len(data), "mode": "hosted",
            "is_external": False, "url_private": f"{url}/{name}",
            "url_private_download": f"{url}/download/{name}",
        }  # fmt: skip

    def describe_failure(self, status: int, retry_after_s: int | None) -> Response:
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        error = "ratelimited" if status == 429 else "internal_error"
        return answer_json({"ok": False, "error": error}, status, headers)

    def answer(self, request: FakeRequest) -> Response:
        """Respond as Slack does: errors have status 200 and ``ok: false``."""
        if request.path.startswith("/upload/"):
            return self._take_upload(request)
        fields = _read_fields(request)
        token = fields.pop("token", None) or request.headers.get("authorization", "")[7:]
        if request.path.startswith("/files-pri/"):
            return self._download(request.path, token)
        if not token:
            return _refuse("not_authed")
        if token != self.token:
            return _refuse("invalid_auth")
        methods = {
            "auth.test": self._test,
            "chat.postMessage": self._post,
            "conversations.open": self._open,
            "conversations.replies": self._list_replies,
            "files.info": self._show_file,
            "files.getUploadURLExternal": self._begin_upload,
            "files.completeUploadExternal": self._complete_upload,
        }
        method = methods.get(request.path.removeprefix("/api/"))
        if method is None:
            return _refuse("unknown_method")
        return method(fields)

    def _test(self, fields: dict[str, Any]) -> Response:
        return answer_json({"ok": True, "user_id": self.bot_user, "team": "Subarachnoid"})

    def _post(self, fields: dict[str, Any]) -> Response:
        text = fields.get("text") or ""
        if not self.knows(fields.get("channel")):
            return _refuse("channel_not_found")
        if not text.strip() or len(text) > MAX_TEXT_CHARS:
            return _refuse("msg_too_long" if text.strip() else "no_text")
        ts = self._accept({**fields, "method": "chat.postMessage"})
        message = {"type": "message", "text": text, "ts": ts, "bot_id": "B123ABC456"}
        return answer_json({"ok": True, "channel": fields["channel"], "ts": ts, "message": message})

    def _open(self, fields: dict[str, Any]) -> Response:
        users = str(fields.get("users") or "")
        if not users.startswith(("U", "W")):
            return _refuse("user_not_found")
        return answer_json({"ok": True, "channel": {"id": f"D{users[1:]}"}})

    def _list_replies(self, fields: dict[str, Any]) -> Response:
        found = self.threads.get((fields["channel"], fields["ts"]))
        if found is None:
            return _refuse("thread_not_found")
        latest = float(fields.get("latest") or "inf")
        found = [one for one in found if float(one["ts"]) < latest]
        limit = int(fields.get("limit") or 1000)
        return answer_json({"ok": True, "messages": found[:limit], "has_more": len(found) > limit})

    def _begin_upload(self, fields: dict[str, Any]) -> Response:
        if not fields.get("filename") or int(fields.get("length") or 0) <= 0:
            return _refuse("invalid_arguments")
        file_id = f"F{next(self._numbers):08}"
        self._uploads[file_id] = {"length": int(fields["length"]), "name": fields["filename"]}
        return answer_json(
            {"ok": True, "file_id": file_id, "upload_url": f"{self.url}/upload/v1/{file_id}"}
        )

    def _take_upload(self, request: FakeRequest) -> Response:
        upload = self._uploads.get(request.path.rpartition("/")[2])
        if upload is None or len(request.data) != upload["length"]:
            return Response(status=400)
        upload["data"] = request.data
        return Response(f"OK - {len(request.data)}")

    def _complete_upload(self, fields: dict[str, Any]) -> Response:
        if not self.knows(fields.get("channel_id")):
            return _refuse("channel_not_found")
        files = [{**one, **self._uploads.get(one["id"], {})} for one in fields["files"]]
        if not files or any("data" not in one for one in files):
            return _refuse("file_not_found")
        self._accept({**fields, "files": files, "method": "files.completeUploadExternal"})
        shown = [{"id": one["id"], "title": one.get("title", "")} for one in files]
        return answer_json({"ok": True, "files": shown})

    def _show_file(self, fields: dict[str, Any]) -> Response:
        if fields.get("file") not in self._files:
            return _refuse("file_not_found")
        return answer_json({"ok": True, "file": self._describe(fields["file"])})

    def _download(self, path: str, token: str) -> Response:
        found = next((x for key, x in self._files.items() if f"-{key}/" in path), None)
        if found is None:
            return Response(status=404)
        if token != self.token:
            return redirect(f"{self.url}/signin")
        return Response(found[1], mimetype="application/octet-stream")

    def _accept(self, message: dict[str, Any]) -> str:
        ts = f"{int(time.time())}.{next(self._numbers):06}"
        self.accept({**message, "ts": ts})
        return ts


def _read_fields(request: FakeRequest) -> dict[str, Any]:
    """Return the arguments of a call. Parse JSON in the form fields ``files`` and ``blocks``."""
    fields = request.read_fields()
    for key, value in fields.items():
        if key in ("files", "blocks") and isinstance(value, str):
            fields[key] = json.loads(value)
    return fields


def _refuse(error: str) -> Response:
    return answer_json({"ok": False, "error": error})
