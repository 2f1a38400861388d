"""Tools for the model, and the context of their calls."""

from __future__ import annotations

import copy
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

#: Handling of a call that was lost with its worker.
Retry = Literal["never", "safe"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")

#: Maximum size of a text file that is decoded without a reader for its format.
_MAX_TEXT_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class ToolAttachment:
    """A file of the user's message.

    :param type: ``image``, ``record``, ``file`` or ``video``.
    :param mime: Media type, detected from the file's bytes.
    :param reader: Returns the first ``max_bytes`` bytes.
    :param text_reader: Returns a document's text, as models get it. If None, the bytes are decoded.
    """

    attachment_id: str
    filename: str
    type: str
    mime: str
    size_bytes: int
    reader: Callable[[int], bytes] = field(repr=False, compare=False)
    text_reader: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    def read_text(self) -> str:
        """Return the text of a file in any encoding; a document's text as Markdown.

        :raises ToolError: if it has no text or cannot be read, with the reason.
        """
        if self.text_reader is not None:
            return self.text_reader()
        text, _ = decode(self.read(_MAX_TEXT_BYTES))
        if is_binary(text) or (self.size_bytes and not text):
            raise ToolError(f"{self.filename} ({self.mime}) is not a text")
        return text

    def read(self, max_bytes: int) -> bytes:
        """Return the file's bytes, at most ``max_bytes`` from its beginning."""
        return self.reader(max_bytes)


def _send_no_file(source: Path | str | bytes, filename: str) -> str:
    raise ToolError("files cannot be sent here")


def _send_no_message(message: Any) -> str:
    raise ToolError("messages cannot be sent here")


def report_nothing(progress: float, total: float | None = None, message: str = "") -> None:
    """Ignore a report."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The turn that calls a tool, as far as the tool may know it.

    :param cancel: Fires when the turn is stopped or the call's time is over. Tools that wait or
        work for long should check it.
    :param platform: The user's platform: ``webchat``, or the type of the bot.
    :param attachments: Files of the user's message.
    :param send_file: Called with a path or bytes and a file name; shows the user a file and returns
        its ``attachment_id``. Raises :class:`~astrbot_api.errors.ToolError` if that fails.
    :param send_message: Called with a text or a list of segments; sends the user a separate message
        at once and returns the conversation's UMO. Raises :class:`~astrbot_api.errors.ToolError` if
        that fails.
    :param report_progress: Called with the progress so far, its final value (or None if unknown)
        and a text; shows clients the progress. May be called at any rate.
    :param settings: The config's settings for the tool's plugin.
    :param payer: The API key whose quota counts stored data, or None.
    :param idempotency_key: Identifies this call, also when it is repeated after its worker died.
        Pass it to other services to make their effects happen once. Empty if there is none.
    :param span: Trace span of the call. ``span.to_headers()`` returns headers that continue the
        trace on another server.
    """

    username: str
    session_id: str
    config_id: str
    cancel: Cancellation
    platform: str = "webchat"
    attachments: tuple[ToolAttachment, ...] = ()
    send_file: Callable[[Path | str | bytes, str], str] = _send_no_file
    send_message: Callable[[Any], str] = _send_no_message
    report_progress: Callable[..., None] = report_nothing
    settings: Mapping[str, Any] = field(default_factory=dict)
    payer: str | None = None
    idempotency_key: str = ""
    span: Span = field(default=NO_SPAN, repr=False, compare=False)

    def to_call(self, call_id: str, span: Span) -> ToolContext:
        """Return the context of one call of this turn."""
        key = f"{self.idempotency_key}:{call_id}" if self.idempotency_key else ""
        return replace(self, idempotency_key=key, span=span)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. :func:`~astrbot_api.tool` makes one.

    :param name: Unique name of letters, digits, ``_``, ``-`` and ``.``.
    :param description: Text for the model, which says when to call the tool.
    :param call: Called with the arguments and the context; returns text, or any JSON value. It runs
        in a thread of its own (a greenlet under gevent), so it may block in network calls, but must
        not compute for long. It reports failures to the model by raising
        :class:`~astrbot_api.errors.ToolError`.
    :param parameters: JSON schema of the arguments, an object. Models get the subset that endpoints
        accept.
    :param timeout_s: Time limit of a call in seconds, or None for the config's.
    :param by_name_only: Whether a config's ``[tools] allow`` must have its whole name. ``*`` is not
        enough then. Use it for tools that access other systems.
    :param needs_approval: Whether a person must approve each call.
    :param retry: Handling of a call whose worker died before its result was stored. ``safe``
        repeats it. ``never`` reports an unknown outcome to the model.
    :param sequence: In one step, calls with the same sequence run one after another, in the model's
        order. The default is no sequence: such calls run at the same time.
    :param reads_only: Whether its calls may run at the same time as other reading ones of their
        sequence.
    """

    name: str
    description: str
    call: Callable[[Mapping[str, Any], ToolContext], Any]
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(_NO_PARAMETERS))
    timeout_s: float | None = None
    by_name_only: bool = False
    retry: Retry = "never"
    needs_approval: bool = False
    sequence: str = ""
    reads_only: bool = False
    # Built once, since building costs many times a check.
    _check: ArgumentCheck = field(init=False, repr=False, compare=False)
    # Built once, since every turn holds the specs of all its tools.
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

    def with_settings(self, settings: Mapping[str, Any]) -> Tool:
        """Return a copy whose calls get these settings. It shares the check and the description."""
        call = self.call
        bound = copy.copy(self)
        object.__setattr__(
            bound,
            "call",
            lambda arguments, context: call(arguments, replace(context, settings=settings)),
        )
        return bound

    def to_spec(self) -> ToolSpec:
        """Return the description for the model. Turns share it, so do not modify it."""
        return self._spec

    def read_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments, with texts converted to their types."""
        return self._check.read(values)

    def find_fault(self, values: Mapping[str, Any]) -> str:
        """Return the first fault of a call's arguments, or an empty string."""
        return self._check.find_fault(values)
