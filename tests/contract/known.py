"""Preconditions of the recordings: configs, a session and attachments."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from ..servers import Server
from . import wire
from .wire import Recording

SECOND = "99662acd-9174-4f4b-851c-d8da2e0a5b08"
DUPLICATES = ("abf4012a-110c-4a8a-9057-0ecedd34d593", "3068deb3-fcaa-487f-b602-d61e6a45a635")
KNOWN_SESSION = "59519409-0e6b-490e-a97b-32ae72957e73"

#: Attachments that the recordings expect.
KNOWN_FILES = {
    "da7b5541-7005-4bf6-9bf9-0c389e3ff86c": ("hello.txt", b"hello world\n"),
    "1b68ef0b-4381-487a-ab68-305618e2ad34": ("dot.png", wire.PNG),
    "71d3d923-5332-4294-bde0-9577413b9aca": ("note.txt", b"a note\n"),
    "ed224eaa-4ec1-4d80-aa99-881d8be9c749": ("beep.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)),
    "53eeab4c-60f8-49b2-bced-464baab52b03": ("im.png", wire.PNG),
    "f9d4ebaa-3008-4971-ba3f-4a9dab0acae7": ("im.txt", b"a note\n"),
    "96682dff-85e0-4a53-a675-49a2f1c09462": ("im.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)),
    "2088896b-b938-4549-9e49-799029f58fb8": ("clip.mp4", b"\0\0\0\x18ftypisom" + bytes(12)),
}


def upload_known_files(server: Server, placeholders: dict[str, str]) -> dict[str, str]:
    """Upload the files of the recordings and return recorded ids -> ours."""
    key = placeholders["KEY_ALL"]
    ids = {}
    for recorded, (name, data) in KNOWN_FILES.items():
        answer = server.request("POST", "/api/v1/file", key, fields={"file": (name, data)})
        ids[recorded] = answer.json()["data"]["attachment_id"]
    for recording in wire.load_recordings("40-file"):
        found = re.search(r'"attachment_id":"([0-9a-f-]{36})"', recording.answer)
        if found:
            body = json.loads(wire.send(server, recording, placeholders).body)
            ids[found[1]] = body["data"]["attachment_id"]
    return ids


def with_ids(recording: Recording, ids: dict[str, str]) -> Recording:
    """Return a recording with other attachment ids."""
    head, body = recording.head, recording.body
    for recorded, ours in ids.items():
        head, body = head.replace(recorded, ours), body.replace(recorded, ours)
    return replace(recording, head=head, body=body)
