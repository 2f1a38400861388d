"""Tools: what the model may call, and what a call is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ToolError
from ..runtime.decoding import decode, is_binary
from ..runtime.tracing import NO_SPAN, Span
from .cancel import Cancellation
from .checking import ArgumentCheck
from .fitting import fit_schema
from .provider import ToolSpec

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}

#: What becomes of a call that was lost with its worker.
Retry = Literal["never", "safe"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")

#: What is decoded of a file that nothing else reads.
_MAX_TEXT_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class ToolAttachment:
    """A file that came with the user's message.

    :param type: ``image``, ``record``, ``file`` or ``video``.
    :param mime: Media type, from the file's bytes.
    :param reader: Returns the first so many bytes.
    :param text_reader: Returns the text of a document, as the model is given it; None: the
        bytes are decoded.
    """

    attachment_id: str
    filename: str
    type: str
    mime: str
    size_bytes: int
    reader: Callable[[int], bytes] = field(repr=False, compare=False)
    text_reader: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    def read_text(self) -> str:
        """Return the text of the file: a document's as Markdown, of any encoding.

        :raises ToolError: for what has none, or cannot be read, with the reason.
        """
        if self.text_reader is not None:
            return self.text_reader()
        text, _ = decode(self.read(_MAX_TEXT_BYTES))
        if is_binary(text) or (self.size_bytes and not text):
            raise ToolError(f"{self.filename} ({self.mime}) is no text")
        return text

    def read(self, max_bytes: int) -> bytes:
        """Return the file's bytes, at most ``max_bytes`` from its beginning."""
        return self.reader(max_bytes)


def _send_no_file(source: Path | str | bytes, filename: str) -> str:
    raise ToolError("files cannot be sent here")


def _send_no_message(message: Any) -> str:
    raise ToolError("messages cannot be sent here")


def _report_nothing(progress: float, total: float | None = None, message: str = "") -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the turn that calls it.

    :param cancel: Fires when the turn is stopped, and when the call's time
        is up: what waits or works for long should look at it.
    :param platform: Where the user is: ``webchat``, or the type of the bot.
    :param attachments: What the user sent with the message.
    :param send_file: Called with a path or bytes and a file name, shows the
        user a file and returns its ``attachment_id``; raises
        :class:`~astrbot_api.errors.ToolError` where that is not possible.
    :param send_message: Called with a text or a list of segments, sends the
        user a message of its own at once and returns the conversation's UMO;
        raises :class:`~astrbot_api.errors.ToolError` where that is not possible.
    :param report_progress: Called with a number that grows, the number at the end (None: not
        known) and a text, shows clients how far the call is; may be called at any rate.
    :param settings: What the config sets for the plugin that the tool is of.
    :param payer: The API key whose quota holds for what the tool stores; None: no key's.
    :param idempotency_key: Names this call, the same when it is made again after its worker
        died: what the tool asks elsewhere can be done once under it. Empty: there is none.
    :param span: The call, in a trace: ``span.to_headers()`` are the headers with
        which another server goes on with it.
    """

    username: str
    session_id: str
    config_id: str
    cancel: Cancellation
    platform: str = "webchat"
    attachments: tuple[ToolAttachment, ...] = ()
    send_file: Callable[[Path | str | bytes, str], str] = _send_no_file
    send_message: Callable[[Any], str] = _send_no_message
    report_progress: Callable[..., None] = _report_nothing
    settings: Mapping[str, Any] = field(default_factory=dict)
    payer: str | None = None
    idempotency_key: str = ""
    span: Span = field(default=NO_SPAN, repr=False, compare=False)

    def to_call(self, call_id: str, span: Span) -> ToolContext:
        """Return the context of one call of the turn that this one is of."""
        key = f"{self.idempotency_key}:{call_id}" if self.idempotency_key else ""
        return replace(self, idempotency_key=key, span=span)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. :func:`~astrbot_api.tool` makes one.

    :param name: Unique; letters, digits, ``_``, ``-`` and ``.``.
    :param description: When the model should call it.
    :param call: Takes the arguments and the context, returns text, or
        anything that JSON can hold. It runs in a thread of its own (a
        greenlet under gevent), so it may block in network calls, but not
        compute for long. It reports a failure to the model by raising
        :class:`~astrbot_api.errors.ToolError`.
    :param parameters: JSON schema of the arguments, an object. Models are offered
        what endpoints take of it.
    :param timeout_s: How long a call may take; None: as the config says.
    :param by_name_only: Offered only where a config's ``[tools] allow`` has
        its whole name: ``*`` is not enough. For tools that reach out.
    :param needs_approval: Whether a person must approve each call.
    :param retry: What becomes of a call whose worker died before its result was stored:
        ``safe``: it is made again; ``never``: the model learns that its outcome is unknown.
    """

    name: str
    description: str
    call: Callable[[Mapping[str, Any], ToolContext], Any]
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(_NO_PARAMETERS))
    timeout_s: float | None = None
    by_name_only: bool = False
    retry: Retry = "never"
    needs_approval: bool = False
    # Made once: building it costs many times what a check does.
    _check: ArgumentCheck = field(init=False, repr=False, compare=False)
    # Made once too: every turn holds those of all its tools.
    _spec: ToolSpec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"tool {self.name!r}: a name has 1 to 128 letters, digits, '_', '-' and '.'"
            )
        if self.retry not in get_args(Retry):
            raise ValueError(f"tool {self.name!r}: retry is 'never' or 'safe', not {self.retry!r}")
        fitted = fit_schema(self.parameters)
        object.__setattr__(self, "_check", ArgumentCheck(self.name, self.parameters, fitted))
        spec: ToolSpec = {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": fitted,
            },
        }
        object.__setattr__(self, "_spec", spec)

    def to_spec(self) -> ToolSpec:
        """Return the description that a model is given. Turns share it: it is not to be changed."""
        return self._spec

    def read_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments, with texts read as the types that they must have."""
        return self._check.read(values)

    def find_fault(self, values: Mapping[str, Any]) -> str:
        """Return what is wrong with a call's arguments; empty: nothing."""
        return self._check.find_fault(values)
