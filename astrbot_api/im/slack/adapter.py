"""A Slack bot: sends through the Web API, receives through the Events API."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from ...deliveries.http import PlatformError, PlatformHttp
from ...files.storage.protocol import BlobReader
from ...runtime.bounded_json import load_json
from ..adapter import BadSignature, Choice, InboundRequest, InMessage, OutFile, Reception, Target
from ..markdown import read_fitting
from ..piecewise import PiecewiseAdapter, check_size
from .api import SlackApi
from .inbound import read_event, read_press
from .mrkdwn import escape, write_mrkdwn
from .quoting import fetch_thread

#: Slack recommends 4,000 and truncates at 40,000. Markup and escapes count too.
_MAX_TEXT_UNITS = 3500
_MAX_FILE_BYTES = 1000 * 1000 * 1000

#: Maximum text length of a block. Source: https://docs.slack.dev/reference/block-kit/blocks
_MAX_SECTION_CHARS = 3000

#: Prefix of the form that Slack posts after a button press.
_PRESSED = b"payload="

#: Maximum age of a signed request, in seconds.
#: Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
_TOLERANCE_S = 300

#: Channel or user, and optional thread, as :func:`.inbound.read_event` writes them.
_SESSION = re.compile(r"([CDGUW][A-Z0-9]{2,20})(?:#(\d{1,12}\.\d{1,8}))?", re.ASCII)


class SlackAdapter(PiecewiseAdapter):
    """One bot in one workspace."""

    type = "slack"
    max_text_units = _MAX_TEXT_UNITS

    def __init__(self, settings: Mapping[str, Any], http: PlatformHttp) -> None:
        self._settings = settings
        self._api = SlackApi(http, settings["base_url"], settings["token"], settings["timeout_s"])

    def check(self) -> str:
        """Return the bot's Slack name.

        :raises PlatformError: if Slack rejects the token.
        """
        return str(self._api.call("auth.test", {}).get("user", ""))

    def complete(self, message: InMessage) -> InMessage:
        """Fetch the earlier messages of a message's thread."""
        return fetch_thread(self._api, message)

    def open_file(self, source: str) -> BlobReader:
        """Open a file by its private URL or its id."""
        if not source.startswith("F"):
            return self._api.download(source)
        file = self._api.call("files.info", {"file": source}).get("file") or {}
        return self._api.download(str(file.get("url_private_download") or file.get("url_private")))

    def receive(self, request: InboundRequest) -> Reception:
        """Parse an event that Slack posted, or answer its URL verification."""
        self._check_signature(request)
        raw, pressed = request.body, request.body.startswith(_PRESSED)
        try:
            if pressed:
                raw = unquote_plus(raw[len(_PRESSED) :].decode()).encode()
            body = load_json(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return Reception(status=400)
        if body.get("type") == "url_verification":
            return Reception(body=str(body.get("challenge", "")).encode())
        message = None
        if pressed:
            message = read_press(body)
        elif body.get("type") == "event_callback":
            message = read_event(body, self._settings["threads"])
        return Reception(() if message is None else (message,))

    def _check_signature(self, request: InboundRequest) -> None:
        secret: str = self._settings["signing_secret"]
        timestamp = request.headers.get("x-slack-request-timestamp", "")
        given = request.headers.get("x-slack-signature", "")
        signed = f"v0:{timestamp}:".encode() + request.body
        expected = "v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        if not secret or not hmac.compare_digest(given.encode(), expected.encode()):
            raise BadSignature("the request is not signed with the app's signing secret")
        if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > _TOLERANCE_S:
            raise BadSignature("the request is too old")

    def _find_address(self, target: Target) -> dict[str, str]:
        """Return the arguments that address a channel."""
        found = _SESSION.fullmatch(target.session_id)
        if found is None:
            raise PlatformError(
                "The session must be a Slack channel or user (C…, D…, G…, U…), followed by "
                "#THREAD_TS for a thread."
            )
        channel, thread = found.groups()
        if channel[0] in "UW":
            opened = self._api.call("conversations.open", {"users": channel})
            channel = str(opened["channel"]["id"])
        return {"channel": channel, **({"thread_ts": thread} if thread else {})}

    def _send_choices(
        self, address: Mapping[str, str], text: str, choices: Sequence[Choice]
    ) -> Sequence[str]:
        if not choices or len(text) > _MAX_SECTION_CHARS:
            return self._send_text(address, text)
        buttons = [
            {
                "type": "button", "action_id": f"choice{number}", "value": one.text,
                "text": {"type": "plain_text", "text": one.label},
            }
            for number, one in enumerate(choices)
        ]  # fmt: skip
        blocks = [
            {"type": "section", "text": {"type": "plain_text", "text": text}},
            {"type": "actions", "elements": buttons},
        ]
        return self._post({**address, "text": escape(text), "blocks": blocks})

    def _send_text(self, address: Mapping[str, str], text: str) -> Sequence[str]:
        if self._settings["format"] == "plain":
            return self._post({**address, "text": escape(text)})
        rich = read_fitting(text, 2 * _MAX_TEXT_UNITS)
        return self._post({**address, "text": write_mrkdwn(rich)})

    def _post(self, message: Mapping[str, Any]) -> Sequence[str]:
        return (str(self._api.call("chat.postMessage", message).get("ts", "")),)

    def _send_file(self, address: Mapping[str, str], file: OutFile) -> Sequence[str]:
        check_size(file, _MAX_FILE_BYTES, "Slack")
        file_id = self._api.upload(file)
        arguments: dict[str, Any] = {
            "files": [{"id": file_id, "title": file.filename}],
            "channel_id": address["channel"],
        }
        if "thread_ts" in address:
            arguments["thread_ts"] = address["thread_ts"]
        self._api.call("files.completeUploadExternal", arguments)
        return (file_id,)
