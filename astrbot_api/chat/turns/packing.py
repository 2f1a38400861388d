"""Serialise a turn's request, so that another worker can resume the turn."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ...config.agents import AgentConfig
from ...keys.rules import NO_RULES, KeyGuard, load_rules
from ...messages import Segment, parse_stored_message
from ..context.supplied import SuppliedContext, SuppliedMessage
from ..context.thread import ThreadEntry
from .turn import OpenTurn, Origin, TurnRequest

#: Maximum size of a request that is stored when its turn begins, in bytes. No other worker can
#: resume a turn with a longer request.
MAX_BYTES = 256 * 1024

#: Fields that are stored unchanged. Default values are left out.
_PLAIN = (
    "username", "session_id", "shown_session_id", "streaming", "provider_id", "model",
    "skip_user_history", "key_id", "may_wait", "rpc_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PackedRequest:
    """A stored request.

    :param segments: The message, or None if it is stored as a message of the session.
    :param replaces: Number of the answer to delete when the new answer is stored.
    :param traceparent: The trace that the turn belongs to.
    """

    request: TurnRequest
    config_id: str
    segments: Sequence[Segment] | None
    replaces: int | None
    traceparent: str | None


def pack_request(
    request: TurnRequest,
    config: AgentConfig,
    *,
    stored: bool,
    replaces: int | None,
    traceparent: str | None,
    max_bytes: int = MAX_BYTES,
) -> str | None:
    """Return a request as JSON.

    :param stored: Whether its message is stored in the session.
    :returns: The JSON, or None if only this worker can run the turn, because its session is hidden
        or the request is too long.
    """
    if not request.kept:
        return None
    values = {
        name: value
        for name in _PLAIN
        if (value := getattr(request, name)) not in ("", None, False) or name == "streaming"
    }
    values["config_id"] = config.id
    if not stored:
        values["segments"] = [one.to_wire() for one in request.segments]
    if request.guard is not None:
        guard = request.guard
        values["guard"] = [
            guard.key_id, guard.root_id, guard.rules.to_json(), guard.root_rules.to_json(),
        ]  # fmt: skip
    further = {
        "context": request.context, "origin": request.origin, "replaces": replaces,
        "caller_tools": request.caller_tools, "model_fields": request.model_fields,
        "traceparent": traceparent, "response_of": request.entry and request.entry.key_id,
    }  # fmt: skip
    values |= {name: value for name, value in further.items() if value}
    packed = orjson.dumps(values)
    return packed.decode() if len(packed) <= max_bytes else None


def pack_waiting(turn: OpenTurn) -> str | None:
    """Return the request of a turn that must wait, of any length.

    :returns: The JSON, or None if the turn's session is hidden.
    """
    return pack_request(
        turn.request, turn.config, stored=turn.user_message is not None, replaces=turn.replaces,
        traceparent=turn.span.to_traceparent(), max_bytes=sys.maxsize,
    )  # fmt: skip


def unpack_request(text: str) -> PackedRequest:
    """Return the request from :func:`pack_request`. Stored ``segments`` are left empty.

    :raises ValueError: if this version does not know the format.
    """
    values: dict[str, Any] = orjson.loads(text)
    try:
        config_id = values.pop("config_id")
        replaces, traceparent = values.pop("replaces", None), values.pop("traceparent", None)
        wire = values.pop("segments", None)
        segments = None if wire is None else parse_stored_message(wire)
        if "guard" in values:
            values["guard"] = _read_guard(*values["guard"])
        if "context" in values:
            values["context"] = _read_context(values["context"])
        if "origin" in values:
            values["origin"] = Origin(**values["origin"])
        if "response_of" in values:
            # The entry is already stored.
            values["entry"] = ThreadEntry(values.pop("response_of"), "", "")
        request = TurnRequest(segments=segments or (), config_id=config_id, **values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the stored request is of another version: {error}") from error
    return PackedRequest(request, config_id, segments, replaces, traceparent)


def _read_guard(
    key_id: str, root_id: str, rules: Mapping[str, Any], root_rules: Mapping[str, Any]
) -> KeyGuard:
    read = (
        load_rules(orjson.dumps(one).decode()) if one else NO_RULES for one in (rules, root_rules)
    )
    return KeyGuard(key_id, root_id, *read)


def _read_context(values: Mapping[str, Any]) -> SuppliedContext:
    lists = {
        name: [SuppliedMessage(**one) for one in values[name]] for name in ("messages", "after")
    }
    return SuppliedContext(**{**values, **lists})
