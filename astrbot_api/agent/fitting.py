"""Convert tools' JSON schemas to the subset that models' endpoints accept.

Endpoints require an object at the root, ``properties`` in each object and ``items`` in each array,
and reject references and alternatives at the root. Foreign tools use drafts 04 to 2020-12, and some
send invalid schemas. The model gets the converted schema. Arguments are checked against the
original (:mod:`.checking`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..runtime.threads import let_others_run
from .keywords import (
    ANNOTATIONS,
    copy_annotations,
    copy_range,
    copy_text_limits,
    is_count,
    is_filled_list,
    is_of_type,
    list_alternatives,
    read_types,
    to_list,
)

#: Maximum depth and number of parts to convert. Anything deeper allows any value.
_MAX_DEPTH = 24
_MAX_PARTS = 4000

#: Parts between two switches to other greenlets. A pattern or a merged part takes a millisecond.
_PARTS_AT_ONCE = 20

#: An index of a list in a reference. Python's ``isdigit`` accepts more, which ``int`` rejects.
_INDEX = re.compile(r"[0-9]{1,9}")

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
            self._fit_object(self._expand(one, ()), 0, ()) for one in list_alternatives(schema)
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

    def _count_part(self) -> None:
        self._parts += 1
        if self._parts % _PARTS_AT_ONCE == 0:
            let_others_run()

    def _fit(self, schema: Any, depth: int, outer: tuple[str, ...]) -> dict[str, Any]:
        """Convert one part of a schema.

        :param outer: References that lead here, to end recursive schemas.
        """
        self._count_part()
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._parts > _MAX_PARTS:
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in outer:
                return {"type": "object", "properties": {}} if depth else {}
            outer = (*outer, reference)
        schema = self._expand(schema, outer)
        types = read_types(schema)
        if len(types) > 1:
            return self._fit_types(schema, types, depth, outer)
        alternatives = list_alternatives(schema)
        fitted = copy_annotations(schema)
        if types:
            fitted |= self._fit_type(schema, types[0], depth, outer)
        elif is_filled_list(schema.get("enum")):
            fitted["enum"] = list(schema["enum"])
        if alternatives and not types:
            choices = [self._fit(one, depth + 1, outer) for one in alternatives]
            if schema.get("nullable") is True:
                choices.append({"type": "null"})
            if len(choices) == 1:
                return {**choices[0], **fitted}
            fitted["anyOf"] = choices
        return fitted

    def _fit_types(
        self, schema: Mapping[str, Any], types: list[str], depth: int, outer: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return a list of types as alternatives, which more endpoints accept."""
        bare = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        choices = []
        for one in types:
            choice = self._fit_type(bare, one, depth + 1, outer)
            if "enum" not in bare or "enum" in choice:
                choices.append(choice)
        annotations = copy_annotations(schema)
        return {**annotations, "anyOf": choices} if choices else annotations

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
                fitted |= copy_range(schema)
            elif kind == "string":
                fitted |= copy_text_limits(schema)
        if is_filled_list(schema.get("enum")):
            values = [one for one in schema["enum"] if is_of_type(one, kind)]
            if values:
                fitted["enum"] = values
        counts = _COUNTS.get(kind, ())
        fitted |= {name: schema[name] for name in counts if is_count(schema.get(name))}
        return {**copy_annotations(schema), **fitted}

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
            for one in to_list(schema.get("required"))
            if isinstance(one, str) and one in properties
        ]
        # Draft 03 marks required properties individually.
        for name, one in given.items():
            if isinstance(one, Mapping) and one.get("required") is True and name not in required:
                required.append(name)
        fitted: dict[str, Any] = {**copy_annotations(schema), "type": "object"}
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
        places = items if isinstance(items, list) else to_list(schema.get("prefixItems"))
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
        self._count_part()
        merged = dict(schema)
        others: list[Any] = []
        reference = merged.pop("$ref", None)
        if isinstance(reference, str):
            others.append(_find_local(self._root, reference))
        others += to_list(merged.pop("allOf", None))
        if self._parts > _MAX_PARTS:
            return merged
        for one in others:
            _merge(merged, self._expand(one, outer, depth + 1))
        if "const" in merged:
            merged["enum"] = [merged.pop("const")]
        return merged


def _find_local(root: Any, reference: str) -> Any:
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
        elif isinstance(here, list) and _INDEX.fullmatch(key) and int(key) < len(here):
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
