"""Transcribe recordings with an endpoint for OpenAI's ``/audio/transcriptions``."""

from __future__ import annotations

import logging
import re

from urllib3.filepost import encode_multipart_formdata

from ...config.transcription import TranscriptionConfig
from ...db import transcripts
from ...db.store import Store
from ...errors import StorageError, Unreadable
from ...providers.quirks import may_pass
from ...runtime.bounded_json import load_json, load_with_halves
from ...runtime.calls import Cancellable
from ...runtime.outbound import Call, Outbound, OutboundError
from ...runtime.pauses import read_pause

log = logging.getLogger(__name__)

_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_CONNECT_S = 10.0

#: Pauses before further tries of a failure that may pass, in seconds.
_PAUSES_S = (1.0, 4.0)
_MAX_PAUSE_S = 30.0

_PAGE = re.compile(r"<(!doctype|html|\?xml)\b", re.IGNORECASE)

#: Marks of SenseVoice: language, emotion and event.
_MARKS = re.compile(r"<\|[^|<>]{1,40}\|>")

_FAILED = "the model that writes recordings down failed"


class Transcriber:
    """Transcribes each recording once, and stores the text beside the file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outbounds: dict[str | None, Outbound] = {}

    def find(self, config: TranscriptionConfig, sha256: str) -> str | None:
        """Return the stored text of a recording, or None."""
        with self._store.read() as db:
            return transcripts.find_text(db, sha256, _name(config))

    def transcribe(
        self, config: TranscriptionConfig, sha256: str, wav: bytes, cancel: Cancellable | None
    ) -> str:
        """Transcribe a recording and store its text.

        :raises Unreadable: if the endpoint fails. The reason is logged.
        :raises RunCancelled: if the turn is stopped meanwhile.
        """
        text = self._ask(config, wav, cancel)
        try:
            self._store.write(lambda db: transcripts.save_text(db, sha256, _name(config), text))
        except StorageError as error:
            log.warning("the text of a recording was not stored: %s", error)
        return text

    def _ask(self, config: TranscriptionConfig, wav: bytes, cancel: Cancellable | None) -> str:
        fields = {"model": config.model, "response_format": "json", "language": config.language}
        given = {name: value for name, value in fields.items() if value}
        body, kind = encode_multipart_formdata({**given, "file": ("voice.wav", wav, "audio/wav")})
        headers = {"Content-Type": kind}
        if config.resolve_api_key():
            headers["Authorization"] = f"Bearer {config.resolve_api_key()}"
        outbound = self._outbounds.setdefault(config.proxy, Outbound(proxy=config.proxy))
        try:
            with Call(cancel, limit_s=config.timeout_s) as call:
                for pause_s in (*_PAUSES_S, None):
                    answer = outbound.send(
                        "POST", f"{config.base_url}/audio/transcriptions", headers=headers,
                        body=body, call=call, connect_timeout_s=_CONNECT_S,
                        read_timeout_s=config.timeout_s, stale_tries=1,
                    )  # fmt: skip
                    try:
                        content, _ = answer.read_all(_MAX_ANSWER_BYTES)
                    finally:
                        answer.close()
                    wait_s = pause_s and (read_pause(answer.headers) or pause_s)
                    if not wait_s or wait_s > _MAX_PAUSE_S or not may_pass(answer.status):
                        break
                    call.sleep(wait_s)
        except OutboundError as error:
            log.warning("transcription: the endpoint %s: %s", error.words, error)
            raise Unreadable(_FAILED) from error
        return _read_text(answer.status, content)


def _name(config: TranscriptionConfig) -> str:
    return f"{config.base_url} {config.model} {config.language}".strip()


def _read_text(status: int, content: bytes) -> str:
    """Return the text of a response, which is JSON, or plain text from some servers.

    :raises Unreadable: for an error, or a page of a website. The reason is logged.
    """
    shown = content[:300].decode("utf-8", "replace")
    if status != 200:
        log.warning("transcription: the endpoint answered %d: %r", status, shown)
        raise Unreadable(_FAILED)
    try:
        value = load_json(content, parse=load_with_halves)
        text = value.get("text") if isinstance(value, dict) else None
    except ValueError:
        plain = content.decode("utf-8", "replace").strip()
        text = None if _PAGE.match(plain) else plain
    if not isinstance(text, str):
        log.warning("transcription: the endpoint's answer has no text: %r", shown)
        raise Unreadable(_FAILED)
    return _MARKS.sub("", text).strip()
