"""Text extraction from mails, for jobs."""

from __future__ import annotations

import email
import email.policy
import re
import time
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

from ...runtime.decoding import decode
from .pages import read_page

#: Number of characters and seconds of CPU time after which reading of a mailbox stops.
_ENOUGH_CHARS = 2_000_000
_ENOUGH_S = 5.0

#: Line above a mail of a mailbox, with a time and a year.
_MAIL_START = re.compile(rb"(?:\A|\n)From [^\n]{0,300}?\d\d:\d\d[^\n]{0,20}? \d{4}\b[^\n]*\n")

#: Type of an invitation, and the event in it.
_CALENDAR = "text/calendar"
_EVENT = re.compile(r"^BEGIN:VEVENT.*?^END:VEVENT", re.DOTALL | re.MULTILINE)

#: Types of a report's parts: why a mail came back, whether it was read, the mail's headers.
_REPORTS = ("message/delivery-status", "message/disposition-notification", "text/rfc822-headers")

#: Maximum depth of mails within mails.
_MAX_MAILS = 3


def read_mail(data: bytes) -> str:
    """Return the headers, text and attachment names of a mail and of the mails in it."""
    data = data.lstrip(b"0123456789 \t\r\n")  # Apple's Mail stores the length above a mail
    head, gap, rest = data.partition(b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n")
    data = decode(head)[0].encode("utf-8", "replace") + gap + rest
    message = email.message_from_bytes(data, policy=email.policy.default)
    return "\n".join(_iter_mail(message, _MAX_MAILS))


def read_mbox(data: bytes, notes: list[str]) -> str:
    """Return the mails of a mailbox, up to the limits of size and time."""
    mails: list[str] = []
    began, chars = time.process_time(), 0
    parts = _MAIL_START.split(data)[1:] or [data]
    for part in parts:
        mails.append(read_mail(part))
        chars += len(mails[-1])
        is_enough = chars > _ENOUGH_CHARS or time.process_time() - began > _ENOUGH_S
        if is_enough and len(mails) < len(parts):
            notes.append(f"Only {len(mails)} of its {len(parts)} mails were read.")
            break
    return "\n\n---\n\n".join(mails)


def _iter_mail(message: Any, depth: int) -> Iterator[str]:
    shown = ("From", "To", "Cc", "Date", "Subject")
    yield from (f"{name}: {message[name]}" for name in shown if message[name])
    yield ""
    # Some newsletters have an empty text beside the page.
    texts = (_read_body(message, kind) for kind in ("plain", "html"))
    yield next((text for text in texts if text.strip()), "")
    if depth == _MAX_MAILS:  # its time and place, which programs show above the text
        invitations = (one for one in message.walk() if one.get_content_type() == _CALENDAR)
        for part in invitations:
            yield from _EVENT.findall(_read_part(part))
    for part in message.iter_attachments():
        name = part.get_filename()
        if part.get_content_type() in _REPORTS:
            yield from _read_report(part)
            continue
        is_text = part.get_content_type() in ("text/plain", "text/html")
        # The styles and frames of a page have locations.
        if is_text and not (name or part["Content-Location"] or part.is_attachment()):
            # Apple's Mail writes the text before and after a picture as two parts.
            yield _read_part(part)
            continue
        inner = None
        if part.get_content_type() == "message/rfc822":
            inner = next(part.iter_parts(), None) if part.is_multipart() else None
            name = str((inner and inner["Subject"]) or name or "")
        if name or not part["Content-Location"]:  # the pictures of a page have locations
            yield f"[attached: {name or 'without a name'}, {part.get_content_type()}]"
        if inner is not None and depth:
            yield from _iter_mail(inner, depth - 1)


def _read_report(part: Any) -> Iterator[str]:
    """Yield the fields of a report's part."""
    text = "" if part.is_multipart() else _read_part(part)
    only = email.message_from_string(text, policy=email.policy.default)
    for block in part.iter_parts() if part.is_multipart() else (only,):
        yield from (f"{name}: {' '.join(value.split())}" for name, value in block.items())
        yield ""


def _read_body(message: EmailMessage, kind: str) -> str:
    """Return the text of a mail, which is ``plain`` or ``html``, or an empty text."""
    body = message.get_body((kind,))
    return _read_part(body) if isinstance(body, EmailMessage) else ""


def _read_part(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    text, _ = decode(raw, part.get_content_charset() or "")
    return read_page(text) if part.get_content_subtype() == "html" else text
