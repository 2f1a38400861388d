"""Parse and validate the arguments of a tool call."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from ..runtime.bounded_json import load_json
from .arguments import INCOMPLETE, TOO_LARGE, find_fault, find_schema_fault, make_validator
from .keywords import is_of_type

log = logging.getLogger(__name__)

#: Maximum depth of a schema.
_MAX_DEPTH = 60

_NUMBERS = {"integer", "number"}


class ArgumentCheck:
    """Checks the arguments of one tool.

    :param schema: The tool author's schema, in any draft.
    :param fitted: The schema for the model, used if the author's schema is invalid.
    """

    def __init__(self, name: str, schema: Any, fitted: Mapping[str, Any]) -> None:
        self._name = name
        self._fitted = fitted
        self._stands_in = False
        self._validator: Any = _make_validator(schema)
        if self._validator is None:
            self._log_unchecked("a schema is not valid")

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments, with texts converted to the types of the schema."""
        read: dict[str, Any] = _coerce(dict(values), self._fitted)
        return read

    def find_fault(self, values: Mapping[str, Any]) -> str:
        """Return the first fault of a call's arguments, or an empty string."""
        fault = find_fault(self._validator, values)
        if fault not in (INCOMPLETE, TOO_LARGE) or self._stands_in:
            return fault
        self._log_unchecked(fault)
        return find_fault(self._validator, values)

    def _log_unchecked(self, why: str) -> None:
        """Switch to the fitted schema, which is limited and has no references."""
        log.warning("%s: the arguments of tool %s are not fully checked", why, self._name)
        self._validator = make_validator(self._fitted)
        self._stands_in = True


def _make_validator(schema: Any) -> Any:
    """Return a validator for the schema's own draft, or None if the schema is invalid."""
    if not isinstance(schema, Mapping):
        return None
    try:
        checked = _without_ids(schema, 0)
        draft = validator_for(checked, default=Draft202012Validator)
        return None if find_schema_fault(checked, draft) else make_validator(checked, draft)
    except Exception:  # an invalid schema breaks the check in many ways
        log.debug("a schema cannot be checked", exc_info=True)
        return None


def _without_ids(value: Any, depth: int) -> Any:
    """Return a schema without ids, which would redirect its local references.

    :raises ValueError: if it is nested without end.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, list):
        return [_without_ids(one, depth + 1) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _without_ids(one, depth + 1)
        for key, one in value.items()
        if not (key in ("$id", "id") and isinstance(one, str))
    }


def _coerce(value: Any, schema: Any) -> Any:
    """Convert a value to the fitted schema's type if the conversion is unambiguous."""
    if not isinstance(schema, Mapping):
        return value
    types = _list_types(schema)
    if isinstance(value, str) and types and "string" not in types:
        value = _read_text(value, types)
    elif types == {"string"} and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, float) and value.is_integer() and types & _NUMBERS == {"integer"}:
        # Gemini's numbers are floats, which many tools reject. orjson writes 64 bits at most.
        return int(value) if abs(value) < 2**63 else value
    if isinstance(value, list) and "items" in schema:
        return [_coerce(one, schema["items"]) for one in value]
    properties = schema.get("properties")
    if isinstance(value, dict) and isinstance(properties, Mapping):
        read = {
            key: _coerce(one, properties.get(key))
            for key, one in value.items()
            if one is not None or _may_be_null(properties.get(key))
        }
        return {**_list_defaults(schema, properties), **read}
    return value


def _may_be_null(schema: Any) -> bool:
    """Return whether null is a value of a property. Otherwise models mean its absence."""
    types = _list_types(schema) if isinstance(schema, Mapping) else ()
    return not types or "null" in types


def _list_defaults(schema: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of required properties, which models omit.

    Some servers of MCP, such as Playwright's, list all properties with a default as required.
    """
    needed = schema.get("required")
    return {
        name: deepcopy(properties[name]["default"])
        for name in (needed if isinstance(needed, list) else ())
        if isinstance(properties.get(name), Mapping) and "default" in properties[name]
    }


def _list_types(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types that a fitted schema allows, or nothing for any type."""
    if isinstance(schema.get("type"), str):
        return frozenset({schema["type"]})
    choices = schema.get("anyOf")
    if not isinstance(choices, list):
        return frozenset()
    types = [_list_types(one) for one in choices if isinstance(one, Mapping)]
    return frozenset().union(*types) if types and all(types) else frozenset()


def _read_text(text: str, types: frozenset[str]) -> Any:
    """Return the value that a text represents in one of the types, or the text."""
    stripped = text.strip()
    lowered = stripped.lower()
    if "boolean" in types and lowered in ("true", "false"):
        return lowered == "true"
    if "null" in types and lowered in ("", "null", "none"):
        return None
    try:
        value = load_json(stripped)
    except ValueError:
        return text
    fits = any(is_of_type(value, kind) for kind in types & {"array", "object", *_NUMBERS})
    return value if fits else text
