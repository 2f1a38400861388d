"""Tool schemas without the parts that some endpoints reject.

llama.cpp cannot turn, for example, an odd pattern or a large maximum length into a grammar.
Gateways to Gemini reject ``exclusiveMinimum``. The server still checks the arguments with the whole
schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Keywords that only reject values, or describe them.
_CHECKS = frozenset(
    {
        "pattern", "format", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
        "minProperties", "maxProperties", "patternProperties", "propertyNames", "contains", "not",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "default",
        "additionalProperties", "title", "$schema",
    }
)  # fmt: skip

#: Keywords whose members are schemas by name.
_BY_NAME = frozenset({"properties", "$defs", "definitions"})

#: Types of JSON schemas. Some tools have others, such as ``any``.
_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})

#: Keywords whose values are no schemas.
_VALUES = frozenset({"enum", "const", "default", "examples"})


def simplify_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tool whose parameters have only types, names and alternatives."""
    function = tool.get("function")
    if not isinstance(function, dict) or "parameters" not in function:
        return tool
    return {**tool, "function": {**function, "parameters": _simplify(function["parameters"])}}


def _simplify(schema: Any) -> Any:
    if isinstance(schema, list):
        return list(map(_simplify, schema))
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, dict):
            # A schema may be true or false.
            found[key] = {
                name: _simplify(one) if isinstance(one, dict) else {} for name, one in value.items()
            }
        elif not (key in _CHECKS or (key == "type" and _is_odd(value))):
            found[key] = value if key in _VALUES else _simplify(value)
    return found


def _is_odd(kind: Any) -> bool:
    return isinstance(kind, str) and kind not in _TYPES


def has_place(tool: Mapping[str, Any], place: str) -> bool:
    """Return whether the parameters of a tool have a place: ``/properties/a``, ``properties.a``."""
    schema: Any = (tool.get("function") or {}).get("parameters")
    for part in place[1:].split("/") if place[0] == "/" else place.split("."):
        if not isinstance(schema, dict) or part not in schema:
            return False
        schema = schema[part]
    return True
