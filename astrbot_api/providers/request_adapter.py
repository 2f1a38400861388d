"""Adaptation of requests to a model's rejections.

:mod:`.fixes` chooses a change after a rejection. This module stores the change and applies it
to all later requests. Each worker keeps its own state in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..agent.provider import ModelMessage
from .conversation import Rules, make_valid
from .fixes import Fix, name_of
from .omissions import Omissions
from .plain_schemas import simplify_tool
from .responses_request import OWN_FIELDS
from .shrinking import measure, shrink

#: Share of a rejected conversation that is sent next, if the error names no numbers.
_NEXT_SHARE = 0.6

#: Default ``max_tokens`` for models that require it.
_USUAL_MAX_TOKENS = 4096

#: Names of rules, which a rejection can set.
_RULES = frozenset(one.name for one in fields(Rules))

#: Fixes that omit content for good -> what disproves them, once the endpoint accepted it. One bad
#: image or tool of a client must not cost the others theirs.
_DISPROOFS = {
    "no_tools": "tools", "no_images": "image_url", "no_media": "image_url",
    "no_audio": "input_audio",
}  # fmt: skip

#: Fixes that are maxima -> text for the log.
_LIMITS = {
    "max_tokens": "answers with a number of tokens of at most",
    "affordable": "answers, with this balance, with a number of tokens of at most",
    "max_images": "accepts a number of images of at most",
    "max_tools": "accepts a number of tools of at most",
    "description": "accepts descriptions of tools of at most this number of characters:",
}

#: Share of a limit that is used, because token counts are estimates.
_MARGIN = 0.9

_NOT_SHOWN = "[What was attached cannot be shown to this model.]"


class RequestAdapter:
    """Changes of the requests to one model of one endpoint, or a copy of them for one request.

    :param provider: Id of the endpoint, see :func:`~.conversation.make_valid`.
    :param responses: Whether to use Responses from the beginning.
    """

    def __init__(self, provider: str, rules: Rules, *, responses: bool) -> None:
        self._provider = provider
        self._rules = rules
        #: Fields of messages and of their calls that are omitted, by kind.
        self._dropped = {"message_field": frozenset[str](), "call_field": frozenset[str]()}
        self._fields, self._tools = Omissions(unknown_after=3), Omissions()
        self._flags = frozenset({"responses"} if responses else ())
        #: Maxima by kind, see :data:`_LIMITS`.
        self._limits: Mapping[str, int] = {}
        #: Maximum size of the messages in characters, or None without a limit.
        self.max_chars: int | None = None

    @property
    def uses_responses(self) -> bool:
        """Whether requests are sent to Responses instead of chat completions."""
        return "responses" in self._flags and "no_responses" not in self._flags

    @property
    def provider(self) -> str:
        """Id of the endpoint and its API, stored with the fields that it gets back."""
        return f"{self._provider}/responses" if self.uses_responses else self._provider

    def adapt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request with all stored changes."""
        given = {**OWN_FIELDS, **body} if self.uses_responses else body
        fields = self._fields
        adapted = {
            key: one for key, one in given.items() if not (fields and fields.omits(key, one))
        }
        self._adapt_length(adapted)
        if "no_stream" in self._flags:
            adapted["stream"] = False
            adapted.pop("stream_options", None)
        self._adapt_tools(adapted)
        if "no_effort" in self._flags and "tools" in adapted and not self.uses_responses:
            adapted["reasoning_effort"] = "none"
        rules = self._rules
        if rules.calls_as_text or self._flags & {"stale", "unthought"}:
            as_text = rules.calls_as_text and "tools" not in adapted
            rules = replace(
                rules,
                plain="stale" in self._flags,
                calls_as_text=as_text or "unthought" in self._flags,
            )
        messages = make_valid(body["messages"], self.provider, rules)
        unfit = self._find_unfit_parts()
        if unfit:
            messages = [_drop_parts(one, unfit) for one in messages]
        max_images = self._limits.get("max_images")
        if "old_media" in self._flags:
            max_images = next(filter(None, map(_count_images, reversed(messages))), 0)
        if max_images is not None:
            messages = _keep_newest_images(messages, max_images)
        for kind in ("message_field", "call_field"):
            if self._dropped[kind]:
                messages = [_drop_names(one, kind, self._dropped[kind]) for one in messages]
        if self.max_chars is not None:
            messages = shrink(messages, self.max_chars)
        adapted["messages"] = messages
        return adapted

    def _adapt_tools(self, adapted: dict[str, Any]) -> None:
        """Apply the changes of the tools in place."""
        if "tools" not in adapted:
            return
        tools = [] if "no_tools" in self._flags else self._choose_tools(adapted["tools"])
        if tools:
            adapted["tools"] = tools
        else:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                adapted.pop(name, None)

    def _adapt_length(self, adapted: dict[str, Any]) -> None:
        """Apply the changes of the answer's length limit in place."""
        if "max_completion_tokens" in self._flags and "max_tokens" in adapted:
            adapted["max_completion_tokens"] = adapted.pop("max_tokens")
        elif "old_max_tokens" in self._flags and "max_completion_tokens" in adapted:
            adapted["max_tokens"] = adapted.pop("max_completion_tokens")
        if "wants_max_tokens" in self._flags and "max_completion_tokens" not in adapted:
            adapted.setdefault("max_tokens", _USUAL_MAX_TOKENS)
        affordable = self._limits.get("affordable")
        if affordable and "max_completion_tokens" not in adapted:
            adapted.setdefault("max_tokens", affordable)
        limits = [self._limits[one] for one in ("max_tokens", "affordable") if one in self._limits]
        for name in ("max_tokens", "max_completion_tokens"):
            if isinstance(adapted.get(name), int):
                adapted[name] = min([adapted[name], *limits])

    def add(self, fix: Fix, body: Mapping[str, Any]) -> str:
        """Store a change.

        :param body: The rejected request, as returned by :meth:`adapt`.
        :returns: Text about the change for the log, or empty if the next request does not differ.
        """
        kind = fix.kind
        if kind == "too_long":
            return self._add_length(fix, body["messages"])
        if kind in _LIMITS:
            limit, known = int(fix.limit), self._limits.get(kind)
            if known is not None and limit >= known:
                return ""
            self._limits = {**self._limits, kind: limit}
            return f"{_LIMITS[kind]} {limit}"
        if kind == "field":
            if not self._fields.add(fix.name, body[fix.name]):
                return ""
            return f"rejects this value of the field {fix.name}: it is omitted from now on"
        if kind == "tool":
            tool = next(one for one in body["tools"] if name_of(one) == fix.name)
            if not self._tools.add(fix.name, tool):
                return ""
            return f"rejects the tool {fix.name}: it is omitted from now on"
        if kind in self._dropped:
            if fix.name in self._dropped[kind]:
                return ""
            self._dropped[kind] |= {fix.name}
            return f"rejects the {kind.replace('_', ' ')} {fix.name}: it is omitted from now on"
        if kind in _RULES:
            if getattr(self._rules, kind):
                return ""
            self._rules = replace(self._rules, **{kind: True})
        elif kind in self._flags:
            return ""
        else:
            self._flags |= {kind}
        words = "accepts no tools" if kind == "no_tools" else f"needs the change {kind}"
        return f"{words}: later requests are adapted"

    def note_accepted(self, body: Mapping[str, Any]) -> None:
        """Store which fields and parts the endpoint accepts."""
        parts = {
            part.get("type")
            for one in body["messages"]
            if isinstance(content := one.get("content"), list)
            for part in content
        }
        self._fields.note_accepted(parts.union(body))

    def is_disproved(self, fix: Fix) -> bool:
        """Return whether a change must not be kept, since the endpoint accepted what it omits."""
        name = _DISPROOFS.get(fix.kind)
        return name is not None and self._fields.accepts(name)

    def copy(self) -> RequestAdapter:
        """Return a copy for trying changes with one request."""
        trial = object.__new__(RequestAdapter)  # copy.copy takes three times as long
        vars(trial).update(vars(self))
        trial._dropped = dict(self._dropped)
        trial._fields, trial._tools = self._fields.copy(), self._tools.copy()
        return trial

    def _add_length(self, fix: Fix, messages: Sequence[ModelMessage]) -> str:
        size = measure(messages)
        share = fix.limit * _MARGIN if fix.limit else _NEXT_SHARE
        wanted = int(size * share)
        shrunk = shrink(messages, wanted)
        if measure(shrunk) >= size:
            return ""
        # An image may be the cause, which shrinking text cannot fix: keep a minimum.
        self.max_chars = max(wanted, 500)
        return (
            f"rejects a conversation of {size} characters: "
            f"at most {self.max_chars} are sent from now on"
        )

    def _choose_tools(self, tools: Sequence[Mapping[str, Any]]) -> list[Any]:
        if max_chars := self._limits.get("description"):
            tools = [_cut_description(one, max_chars) for one in tools]
        if "no_strict" in self._flags:
            tools = list(map(_drop_strict, tools))
        if "plain_schemas" in self._flags:
            tools = list(map(simplify_tool, tools))
        kept = [one for one in tools if not (self._tools and self._omits_tool(one))]
        return kept[: self._limits.get("max_tools")]

    def _omits_tool(self, tool: Mapping[str, Any]) -> bool:
        """Return whether a tool was rejected, as it is or in a plainer form."""
        name = name_of(tool)
        if name not in self._tools:
            return False
        plain = simplify_tool(_drop_strict(tool))
        return any(self._tools.omits(name, one) for one in (tool, plain))

    def _find_unfit_parts(self) -> frozenset[str]:
        unfit: set[str] = set()
        if self._flags & {"no_images", "no_media", "bad_media"}:
            unfit.add("image_url")
        if self._flags & {"no_audio", "no_media", "bad_media"}:
            unfit |= {"input_audio", "file"}
        return frozenset(unfit)


def _cut_description(tool: Mapping[str, Any], max_chars: int) -> Mapping[str, Any]:
    function = tool.get("function") or {}
    description = function.get("description")
    if not isinstance(description, str) or len(description) <= max_chars:
        return tool
    return {**tool, "function": {**function, "description": f"{description[: max_chars - 1]}…"}}


def _drop_strict(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if "function" not in tool:
        return tool
    function = {key: one for key, one in tool["function"].items() if key != "strict"}
    return {**tool, "function": function}


def _drop_parts(message: ModelMessage, kinds: frozenset[str]) -> ModelMessage:
    """Drop parts of some types. If only texts remain, join them into a string."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    kept = [one for one in content if one.get("type") not in kinds]
    if all(one.get("type") == "text" for one in kept):
        text = "\n".join(str(one.get("text") or "") for one in kept)
        note = _NOT_SHOWN if len(kept) < len(content) else ""
        return {**message, "content": "\n".join(filter(None, (text, note)))}
    return {**message, "content": kept}


def _count_images(message: ModelMessage) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return sum(part.get("type") == "image_url" for part in parts)


def _keep_newest_images(messages: Sequence[ModelMessage], max_images: int) -> list[ModelMessage]:
    """Drop the oldest images beyond a number."""
    found: list[ModelMessage] = []
    for message in reversed(messages):
        content = message.get("content")
        if isinstance(content, list):
            kept: list[Any] = []
            for part in reversed(content):
                if part.get("type") == "image_url":
                    max_images -= 1
                    if max_images < 0:
                        part = {"type": "text", "text": _NOT_SHOWN}
                kept.insert(0, part)
            message = {**message, "content": kept}
        found.insert(0, message)
    return found


def _drop_names(message: ModelMessage, kind: str, names: frozenset[str]) -> ModelMessage:
    if kind == "message_field":
        return {key: one for key, one in message.items() if key not in names}
    calls = message.get("tool_calls")
    if not calls:
        return message
    kept = [{key: one for key, one in call.items() if key not in names} for call in calls]
    return {**message, "tool_calls": kept}
