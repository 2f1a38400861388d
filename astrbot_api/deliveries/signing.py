"""Signed requests between servers according to "Standard Webhooks".

Three headers: ``webhook-id`` (the same in a retry), ``webhook-timestamp``
(seconds since 1970) and ``webhook-signature`` (``v1,`` and the base64 of
HMAC-SHA256 over ``id.timestamp.body``). During a change of the secret there are
several signatures, separated by spaces. Libraries for many languages verify
them. Source: https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Mapping

import marshmallow as ma

#: Maximum difference to the sender's clock, in seconds. A request can be replayed within
#: this time, so receivers must remember its id as long.
TOLERANCE_S = 300

_PREFIX = "whsec_"
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_MAX_SIGNATURES = 10


def sign(
    secret: str, message_id: str, body: bytes, *, now_s: float | None = None
) -> dict[str, str]:
    """Return the three headers for a body.

    :param secret: ``whsec_`` and base64, or any other text.
    :param now_s: Seconds since 1970, by default the current time.
    """
    timestamp = str(int(time.time() if now_s is None else now_s))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_digest(secret, message_id, timestamp, body)}",
    }


def verify(
    secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float | None = None
) -> str | None:
    """Verify a request and return its id, or None if the signature is invalid.

    :param headers: Headers with lower-case names.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not secret or not _ID.fullmatch(message_id):
        return None
    if not re.fullmatch(r"\d{1,12}", timestamp, re.ASCII):
        return None
    if abs((time.time() if now_s is None else now_s) - int(timestamp)) > TOLERANCE_S:
        return None
    expected = _digest(secret, message_id, timestamp, body).encode()
    given = headers.get("webhook-signature", "").split(" ")[:_MAX_SIGNATURES]
    # All signatures are compared, so that timing reveals nothing.
    matches = [
        hmac.compare_digest(one.removeprefix("v1,").encode(), expected)
        for one in given
        if one.startswith("v1,")
    ]
    return message_id if any(matches) else None


def is_secret(text: str) -> bool:
    """Return whether a text can be a secret: long enough, and valid base64 after ``whsec_``."""
    try:
        return len(_key(text)) >= 16
    except binascii.Error:
        return False


def check_secret(text: str) -> None:
    """Reject a secret that is easy to guess; a validator for settings schemas."""
    if not is_secret(text):
        raise ma.ValidationError("must have 16 characters, or be whsec_ and base64 of as many")


def _digest(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()
