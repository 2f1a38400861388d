"""Tools: what the model may call, and how a call is carried out.

Whatever goes wrong (an unknown name, arguments that are not JSON or do not
fit the schema, an exception, a call that takes too long) is reported to the model
as the tool's result, and the turn goes on.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from ..errors import RunCancelled, ToolError
from ..runtime.bounded_json import load_json
from ..runtime.decoding import decode, is_binary
from ..runtime.tracing import NO_SPAN, Span, current_span, working_on
from .aside import AbandonableCalls, CallTimedOut, TooManyAbandoned
from .cancel import Cancellation
from .checking import ArgumentCheck
from .fitting import fit_schema
from .provider import ToolSpec
from .tool_limits import ToolBudget, ToolLimits

log = logging.getLogger(__name__)

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}

#: Most tools that an endpoint takes. Source: OpenAI's API reference, "tools".
MAX_TOOLS = 128

DEFAULT_LIMITS = ToolLimits()

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


class Toolbox:
    """The tools of one turn.

    :param tools: Of two with the same name the first is taken.
    :param allow: Patterns (``*``, ``mcp.*``) of the names that are offered.
    :param deny: Patterns that win over ``allow``.
    :param approve: Patterns of the names of tools whose calls a person must approve.
    :param key_allow: The same for the API key of the turn; both must allow.
    :param timeout_s: How long a call may take that says nothing else itself.
    :param max_chars: Longest result; what is longer is cut.
    :param max_tools: Most tools that are offered; endpoints refuse more.
    :param limits: What the calls may cost together.
    :param asides: Where the calls run; that of the application, so that
        calls that never return are counted over all turns.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        *,
        allow: Sequence[str] = ("*",),
        deny: Sequence[str] = (),
        approve: Sequence[str] = (),
        key_allow: Sequence[str] = ("*",),
        timeout_s: float = 60.0,
        max_chars: int = 20_000,
        max_tools: int = MAX_TOOLS,
        limits: ToolLimits = DEFAULT_LIMITS,
        asides: AbandonableCalls | None = None,
    ) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            named = not tool.by_name_only or tool.name in allow
            if named and is_allowed(tool.name, allow, deny, key_allow):
                self._tools.setdefault(tool.name, tool)
        #: Names of the tools that are too many, in order.
        self.left_out = tuple(self._tools)[max_tools:]
        for name in self.left_out:
            del self._tools[name]
        self._budget = ToolBudget(limits)
        self._approve = approve
        self._timeout_s = timeout_s
        self._max_chars = max_chars
        self._asides = asides or AbandonableCalls()

    def begin_step(self) -> None:
        """Note that the calls from now on are of another answer of the model."""
        self._budget.begin_step()

    @property
    def spent(self) -> bool:
        """Whether the turn has used what its tools may cost: none is offered any more."""
        return self._budget.spent

    def to_specs(self) -> list[ToolSpec]:
        """Return the descriptions of the tools for the model, in order."""
        return [tool.to_spec() for tool in self._tools.values()]

    def may_repeat(self, name: str) -> bool:
        """Return whether a call of a tool may be made again when its result was lost."""
        tool = self._tools.get(name)
        # What is not there does nothing.
        return tool is None or tool.retry == "safe"

    def needs_approval(self, name: str, arguments: str) -> bool:
        """Return whether a person must approve a call; not one that cannot be made anyway."""
        tool = self._tools.get(name)
        if tool is None or not (tool.needs_approval or _matches(name, self._approve)):
            return False
        try:
            return not tool.find_fault(tool.read_arguments(parse_arguments(arguments)))
        except ValueError:
            return False

    def recall(self, name: str, arguments: str, result: str) -> None:
        """Count a call that another worker has made in this turn."""
        tool = self._tools.get(name)
        if tool is None:
            return
        try:
            values = tool.read_arguments(parse_arguments(arguments))
        except ValueError:
            return
        if not self._budget.refuse(name, values):
            self._budget.count(name, values, result, 0.0)

    def run(self, name: str, arguments: str, context: ToolContext, call_id: str = "") -> str:
        """Run one call and return the result for the model.

        :param arguments: JSON text of the arguments, as the model wrote it.
        :param call_id: The call's id, for its idempotency key.
        :raises RunCancelled: when the turn is cancelled meanwhile.
        """
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return f"error: there is no tool named {name}; the tools are: {known}"
        try:
            values = tool.read_arguments(parse_arguments(arguments))
        except ValueError:
            return "error: the arguments are not a JSON object"
        fault = tool.find_fault(values)
        if fault:
            return _shorten(f"error: bad arguments: {fault}", self._max_chars)
        if why := self._budget.refuse(tool.name, values):
            return f"error: {why}"
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.name}
        begun = context.span.begin(f"execute_tool {tool.name}", "INTERNAL", attributes)
        started = time.monotonic()
        with working_on(begun) as span:
            result = self._call(tool, values, context.to_call(call_id, span))
        result = _shorten(result, self._max_chars)
        return self._budget.count(tool.name, values, result, time.monotonic() - started)

    def _call(self, tool: Tool, values: dict[str, Any], context: ToolContext) -> str:
        """Run the tool aside, so that one that never returns cannot hold the turn."""
        timeout_s = self._timeout_s if tool.timeout_s is None else tool.timeout_s
        try:
            result = self._asides.run(
                f"the tool {tool.name}",
                lambda cancel: tool.call(values, replace(context, cancel=cancel)),
                timeout_s=timeout_s,
                cancel=context.cancel,
            )
            return _as_text(result)
        except (CallTimedOut, TooManyAbandoned) as error:
            log.error("%s", error)
            current_span().fail(type(error).__name__)
            return f"error: {error}"
        except ToolError as error:
            current_span().fail("ToolError")
            return f"error: {error}"
        except Exception as error:
            context.cancel.raise_if_cancelled()
            if not isinstance(error, RunCancelled):
                log.exception("tool %s failed", tool.name)
            current_span().fail(type(error).__name__)
            return f"error: the tool {tool.name} failed: {type(error).__name__}"


def parse_arguments(text: str) -> dict[str, Any]:
    """Read a call's arguments; nothing at all means none.

    Models encode the object twice, and leave line breaks in its strings as they are.

    :raises ValueError: when the text is not a JSON object.
    """
    value: Any = text
    for _ in range(3):
        if not isinstance(value, str):
            break
        value = _load_lenient(value) if value.strip() else {}
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _load_lenient(text: str) -> Any:
    fenced = re.match(r"\s*+```(?:json)?(?=\s)", text)
    if fenced and text.rstrip().endswith("```"):
        text = text[fenced.end() :].rstrip().removesuffix("```").strip()
    try:
        return load_json(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_allowed(
    name: str, allow: Sequence[str], deny: Sequence[str], key_allow: Sequence[str]
) -> bool:
    """Return whether patterns let a name pass; see :class:`Toolbox`."""
    return _matches(name, allow) and _matches(name, key_allow) and not _matches(name, deny)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return "*" in patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _as_text(result: Any) -> str:
    if isinstance(result, str):
        # Half of a surrogate pair fits in no event and no database.
        return result.encode("utf-8", "replace").decode()
    return orjson.dumps(result, option=orjson.OPT_NON_STR_KEYS).decode()


def _shorten(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n[cut: the result has {len(text)} characters]"
