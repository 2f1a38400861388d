"""Reading of the keywords of foreign JSON schemas, in any draft and possibly invalid."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})

#: Formats that endpoints accept. Source: OpenAI's guide "Structured model outputs".
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")

#: Annotations, which do not change what a schema allows.
ANNOTATIONS = ("title", "description", "default")

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def read_types(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a value may have, or nothing if the schema does not say."""
    given = schema.get("type")
    given = given if isinstance(given, list) else [given]
    types = [one.lower() for one in given if isinstance(one, str) and one.lower() in _TYPES]
    if types and schema.get("nullable") is True:  # OpenAPI 3.0
        types.append("null")
    if types:
        return list(dict.fromkeys(types))
    if isinstance(schema.get("properties"), Mapping):
        return ["object"]
    if "items" in schema or "prefixItems" in schema:
        return ["array"]
    values = to_list(schema.get("enum"))
    for kind in ("string", "integer", "number", "boolean", "null") if values else ():
        if all(is_of_type(one, kind) for one in values):
            return [kind]
    return []


def copy_annotations(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the title, the description and the default."""
    return {
        key: schema[key]
        for key in ANNOTATIONS
        if key in schema and (key == "default" or isinstance(schema[key], str))
    }


def copy_range(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a number. Draft 04 has ``exclusiveMinimum: true``."""
    fitted = {name: schema[name] for name in _NUMBERS if _is_number(schema.get(name))}
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(exclusive) is True and bound in fitted:
            fitted[exclusive] = fitted.pop(bound)
    if fitted.get("multipleOf", 1) <= 0:
        del fitted["multipleOf"]
    return fitted


def copy_text_limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the format and the pattern of a text, if endpoints accept them."""
    fitted = {}
    if schema.get("format") in _FORMATS:
        fitted["format"] = schema["format"]
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and _is_plain(pattern):
        fitted["pattern"] = pattern
    return fitted


def _is_plain(pattern: str) -> bool:
    """Return whether a pattern is matched in a time linear in the text.

    Endpoints that compile the schema to a grammar also reject look-aheads.
    """
    if len(pattern) > 500 or "(?" in pattern or re.search(r"\)[*+{]", pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def is_count(value: Any) -> bool:
    """Return whether a value is a number of characters, items or properties."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_of_type(value: Any, kind: str) -> bool:
    """Return whether a value has a JSON type. ``20.0`` is an integer, ``true`` is no number."""
    return bool(Draft202012Validator.TYPE_CHECKER.is_type(value, kind))


def is_filled_list(value: Any) -> bool:
    """Return whether a value is a list with at least one element."""
    return isinstance(value, list) and bool(value)


def list_alternatives(schema: Mapping[str, Any]) -> list[Any]:
    """Return the schemas of ``anyOf`` and ``oneOf``."""
    return [*to_list(schema.get("anyOf")), *to_list(schema.get("oneOf"))]


def to_list(value: Any) -> list[Any]:
    """Return a list, or an empty list for another value."""
    return list(value) if isinstance(value, list) else []
