"""Convert tools' JSON schemas to the subset that models' endpoints accept.

Endpoints require an object at the root, ``properties`` in each object and ``items`` in each array,
and reject references and alternatives at the root. Foreign tools use drafts 04 to 2020-12, and some
send invalid schemas. The model gets the converted schema. Arguments are checked against the
original (:mod:`.checking`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})

#: Formats that endpoints accept. Source: OpenAI's guide "Structured model outputs".
_FORMATS = frozenset(
    "date-time time date duration email hostname ipv4 ipv6 uuid".split()  # noqa: SIM905
)

#: Maximum depth and number of parts to convert. Anything deeper allows any value.
_MAX_DEPTH = 24
_MAX_PARTS = 4000

#: Annotations to copy.
_NOTES = ("title", "description", "default")

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def fit_schema(schema: Any) -> dict[str, Any]:
    """Return parameters that endpoints accept and that allow everything the schema allows."""
    fitted = _Fitter(schema).fit_root()
    fitted.pop("default", None)
    return fitted


class _Fitter:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = 0

    def fit_root(self) -> dict[str, Any]:
        """Return an object schema. Alternatives become optional properties."""
        schema = self._expand(self._root, ())
        own = self._fit_object(schema, 0, ())
        choices = [
            self._fit_object(self._expand(one, ()), 0, ()) for one in _list_alternatives(schema)
        ]
        for one in choices:
            for name, value in one["properties"].items():
                own["properties"].setdefault(name, value)
        if choices:
            # A property of one alternative may be present although others forbid it.
            if any(one.get("additionalProperties") is not False for one in choices):
                own.pop("additionalProperties", None)
            common = set.intersection(*(set(one.get("required", ())) for one in choices))
            required = [*own.get("required", ()), *sorted(common)]
            own.pop("required", None)
            if required:
                own["required"] = list(dict.fromkeys(required))
        return own

    def _fit(self, schema: Any, depth: int, outer: tuple[str, ...]) -> dict[str, Any]:
        """Convert one part of a schema.

        :param outer: References that lead here, to end recursive schemas.
        """
        self._parts += 1
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._parts > _MAX_PARTS:
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in outer:
                return {"type": "object", "properties": {}} if depth else {}
            outer = (*outer, reference)
        schema = self._expand(schema, outer)
        types = _read_types(schema)
        if len(types) > 1:
            return self._fit_types(schema, types, depth, outer)
        alternatives = _list_alternatives(schema)
        fitted = _copy_notes(schema)
        if types:
            fitted |= self._fit_type(schema, types[0], depth, outer)
        elif _is_values(schema.get("enum")):
            fitted["enum"] = list(schema["enum"])
        if alternatives and not types:
            choices = [self._fit(one, depth + 1, outer) for one in alternatives]
            if len(choices) == 1:
                return {**choices[0], **fitted}
            fitted["anyOf"] = choices
        return fitted

    def _fit_types(
        self, schema: Mapping[str, Any], types: list[str], depth: int, outer: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return a list of types as alternatives, which more endpoints accept."""
        bare = {key: value for key, value in schema.items() if key not in _NOTES}
        choices = []
        for one in types:
            choice = self._fit_type(bare, one, depth + 1, outer)
            if "enum" not in bare or "enum" in choice:
                choices.append(choice)
        return {**_copy_notes(schema), "anyOf": choices} if choices else _copy_notes(schema)

    def _fit_type(
        self, schema: Mapping[str, Any], kind: str, depth: int, outer: tuple[str, ...]
    ) -> dict[str, Any]:
        if kind == "object":
            fitted = self._fit_object(schema, depth, outer)
        elif kind == "array":
            fitted = {"type": "array", "items": self._fit_items(schema, depth, outer)}
        else:
            fitted = {"type": kind}
            if kind in ("number", "integer"):
                fitted |= _copy_range(schema)
            elif kind == "string":
                fitted |= _copy_text(schema)
        if _is_values(schema.get("enum")):
            values = [one for one in schema["enum"] if _is_of(one, kind)]
            if values:
                fitted["enum"] = values
        counts = _COUNTS.get(kind, ())
        fitted |= {name: schema[name] for name in counts if _is_count(schema.get(name))}
        return {**_copy_notes(schema), **fitted}

    def _fit_object(
        self, schema: Mapping[str, Any], depth: int, outer: tuple[str, ...]
    ) -> dict[str, Any]:
        given = schema.get("properties")
        given = given if isinstance(given, Mapping) else {}
        properties = {
            str(name): self._fit(one, depth + 1, outer)
            for name, one in given.items()
            if one is not False
        }
        required = [
            one
            for one in _to_list(schema.get("required"))
            if isinstance(one, str) and one in properties
        ]
        # Draft 03 marks required properties individually.
        for name, one in given.items():
            if isinstance(one, Mapping) and one.get("required") is True and name not in required:
                required.append(name)
        fitted: dict[str, Any] = {**_copy_notes(schema), "type": "object"}
        fitted["properties"] = properties
        if required:
            fitted["required"] = list(dict.fromkeys(required))
        further = schema.get("additionalProperties")
        if isinstance(further, bool):
            fitted["additionalProperties"] = further
        elif isinstance(further, Mapping):
            fitted["additionalProperties"] = self._fit(further, depth + 1, outer)
        return fitted

    def _fit_items(
        self, schema: Mapping[str, Any], depth: int, outer: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return one schema for all items, since endpoints reject schemas by position."""
        items = schema.get("items")
        places = items if isinstance(items, list) else _to_list(schema.get("prefixItems"))
        if not places:
            return self._fit(items, depth + 1, outer)
        further = schema.get("additionalItems") if isinstance(items, list) else items
        if isinstance(further, Mapping):
            places = [*places, further]
        choices: list[dict[str, Any]] = []
        for one in places:
            choice = self._fit(one, depth + 1, outer)
            if choice not in choices:
                choices.append(choice)
        return choices[0] if len(choices) == 1 else {"anyOf": choices}

    def _expand(self, schema: Any, outer: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
        """Return a schema with its reference and ``allOf`` merged into it."""
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return {}
        self._parts += 1
        merged = dict(schema)
        others: list[Any] = []
        reference = merged.pop("$ref", None)
        if isinstance(reference, str):
            others.append(find_local(self._root, reference))
        others += _to_list(merged.pop("allOf", None))
        if self._parts > _MAX_PARTS:
            return merged
        for one in others:
            _merge(merged, self._expand(one, outer, depth + 1))
        if "const" in merged:
            merged["enum"] = [merged.pop("const")]
        return merged


def find_local(root: Any, reference: str) -> Any:
    """Return the target of a local reference, or None if there is none."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    here = root
    for name in reference[2:].split("/"):
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(here, Mapping):
            here = here.get(key)
        elif isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here = here[int(key)]
        else:
            return None
    return here


def _merge(schema: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Merge another schema of the same value into a schema."""
    for key, value in other.items():
        mine = schema.get(key)
        if key == "properties" and isinstance(mine, Mapping) and isinstance(value, Mapping):
            schema[key] = {**value, **mine}
        elif key == "required" and isinstance(mine, list) and isinstance(value, list):
            schema[key] = [*mine, *value]
        elif mine is None:
            schema[key] = value


def _read_types(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a value may have, or nothing if the schema does not say."""
    given = schema.get("type")
    given = given if isinstance(given, list) else [given]
    types = [one.lower() for one in given if isinstance(one, str) and one.lower() in TYPES]
    if types:
        return list(dict.fromkeys(types))
    if isinstance(schema.get("properties"), Mapping):
        return ["object"]
    if "items" in schema or "prefixItems" in schema:
        return ["array"]
    values = _to_list(schema.get("enum"))
    if values:
        kinds = [kind for kind in ("string", "integer", "number", "boolean", "null")
                 if all(_is_of(one, kind) for one in values)]  # fmt: skip
        return kinds[:1]
    return []


def _copy_notes(schema: Mapping[str, Any]) -> dict[str, Any]:
    notes = {key: schema[key] for key in ("title", "description") if key in schema}
    notes = {key: value for key, value in notes.items() if isinstance(value, str)}
    if "default" in schema:
        notes["default"] = schema["default"]
    return notes


def _copy_range(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a number. Draft 04 has ``exclusiveMinimum: true``."""
    fitted = {name: schema[name] for name in _NUMBERS if _is_number(schema.get(name))}
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(exclusive) is True and bound in fitted:
            fitted[exclusive] = fitted.pop(bound)
    if fitted.get("multipleOf", 1) <= 0:
        del fitted["multipleOf"]
    return fitted


def _copy_text(schema: Mapping[str, Any]) -> dict[str, Any]:
    fitted = {}
    if schema.get("format") in _FORMATS:
        fitted["format"] = schema["format"]
    pattern = schema.get("pattern")
    # Endpoints that compile the schema to a grammar reject look-aheads.
    if is_plain_pattern(pattern) and "(?" not in str(pattern):
        fitted["pattern"] = pattern
    return fitted


def is_plain_pattern(pattern: Any) -> bool:
    """Return whether a pattern is matched in a time linear in the text."""
    if not isinstance(pattern, str) or len(pattern) > 500 or re.search(r"\)[*+{]", pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_of(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "null":
        return value is None
    if kind == "integer":
        return _is_number(value) and float(value).is_integer()
    if kind == "number":
        return _is_number(value)
    return isinstance(value, list if kind == "array" else Mapping)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_values(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _list_alternatives(schema: Mapping[str, Any]) -> list[Any]:
    return [*_to_list(schema.get("anyOf")), *_to_list(schema.get("oneOf"))]


def _to_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []
