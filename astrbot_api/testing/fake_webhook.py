"""Fake receiver and sender for a bot of type ``webhook``.

::

    with FakeWebhookReceiver("a secret of 16 or more") as receiver:
        # bots.toml: url = receiver.url, secret as here
        headers, body = receiver.make_request("Hello", session_id="42")
        # … posted to /api/v1/hooks/BOT, and then:
        [answer] = receiver.wait_for_messages(1)
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from werkzeug import Response

from ..deliveries.signing import sign, verify
from .fake_platform import FakePlatform, FakeRequest, answer_json


class FakeWebhookReceiver(FakePlatform):
    """A system that receives signed messages at its :attr:`url` and creates signed requests."""

    def __init__(self, secret: str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") -> None:
        super().__init__()
        self.secret = secret
        #: Number of received duplicates.
        self.duplicates = 0
        self._ids: set[str] = set()

    def make_request(
        self,
        message: str | list[dict[str, Any]],
        *,
        session_id: str = "42",
        event_id: str = "",
        secret: str = "",
        now_s: float | None = None,
        **fields: Any,
    ) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of a message to the bot.

        :param event_id: Id of the event, by default a new id. Repeat an id to send a duplicate.
        :param now_s: Time of the signature, in seconds since 1970.
        :param fields: Further keys of the body.
        """
        body = json.dumps({"session_id": session_id, "message": message, **fields}).encode()
        headers = sign(secret or self.secret, event_id or f"msg_{uuid.uuid4()}", body, now_s=now_s)
        return {"Content-Type": "application/json", **headers}, body

    def answer(self, request: FakeRequest) -> Response:
        """Record a signed message once, with the decoded bytes of its files as ``bytes``."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        message_id = verify(self.secret, headers, request.data)
        if message_id is None:
            return answer_json({"error": "bad signature"}, 401)
        if message_id in self._ids:
            self.duplicates += 1
        else:
            self._ids.add(message_id)
            message = json.loads(request.data)
            for one in message["message"]:
                if "data" in one:
                    one["bytes"] = base64.b64decode(one.pop("data"), validate=True)
            self.accept({**message, "id": message_id})
        return answer_json({"message_id": f"m-{message_id}"})
