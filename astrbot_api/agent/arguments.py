"""Validate the arguments of a tool call against its schema, within limits.

A schema may come from an untrusted MCP server. It cannot fetch anything, its patterns have a time
limit, and its total work is limited, since references can double it with each level.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

import attrs
import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, _WrappedReferencingError, best_match
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY as DRAFTS
from referencing import Registry

from ..runtime.threads import let_others_run

#: Maximum number of keywords in one check. A list of a thousand objects needs a few thousand.
_MAX_STEPS = 20_000

#: Maximum number of keywords to check a schema itself. Each property takes about ten.
_MAX_SCHEMA_STEPS = 500_000

#: Keywords between two switches to other greenlets, which take a few milliseconds.
_STEPS_AT_ONCE = 200

#: Base URL of the draft's vocabularies.
_META = "https://json-schema.org/draft/2020-12/"

#: Maximum length of a fault, and the characters of a message that cost as much as a keyword.
#: jsonschema repeats the whole value in each message.
_MAX_FAULT_CHARS = 400
_CHARS_PER_STEP = 1000

#: Maximum number of a schema's faults from which to choose the one to report.
_MAX_FAULTS = 50

#: Time limit of one pattern, in seconds.
_PATTERN_S = 0.02

#: Maximum length of a pattern in characters. Longer patterns are not checked.
_MAX_PATTERN_CHARS = 2_000


class _Budget(threading.local):
    steps = 0
    max_steps = _MAX_STEPS


_budget = _Budget()


class _TooMuchError(Exception):
    """Raised when a check exceeds :data:`_MAX_STEPS`."""


#: Faults of a schema, not of the arguments.
TOO_LARGE = "the tool's schema is too large to check them"
INCOMPLETE = "the tool's schema refers to what is not in it"


def make_validator(schema: Mapping[str, Any], draft: Any = Draft202012Validator) -> Any:
    """Return a validator for :func:`find_fault`. Create it once per schema.

    :param draft: The ``jsonschema`` validator of the schema's draft.
    """
    return _bound(draft)(schema, registry=Registry())


def find_fault(validator: Any, values: Mapping[str, Any]) -> str:
    """Return the first fault of arguments, or an empty string if none is found."""
    _budget.steps, _budget.max_steps = 0, _MAX_STEPS
    try:
        errors = sorted(validator.iter_errors(values), key=lambda one: list(map(str, one.path)))
    except (_TooMuchError, RecursionError):
        return TOO_LARGE
    except (_WrappedReferencingError, AttributeError, TypeError, ValueError):
        return INCOMPLETE  # or refers to something that is no schema
    if not errors:
        return ""
    where = ".".join(map(str, errors[0].path))
    return f"{where}: {errors[0].message}" if where else str(errors[0].message)


def find_schema_fault(schema: Any, draft: Any = Draft202012Validator) -> str:
    """Return why a value is not a schema of a draft, or an empty string if it is one."""
    _budget.steps, _budget.max_steps = 0, _MAX_SCHEMA_STEPS
    try:
        errors = _check_of(draft).iter_errors(schema)
        found = best_match(islice(errors, _MAX_FAULTS))
    except _TooMuchError:
        return "it is too large"
    except RecursionError:
        return "it is nested too deeply"
    return "" if found is None else str(found.message)


@cache
def _check_of(draft: Any) -> Any:
    """Return the validator for schemas of a draft."""
    meta = draft.META_SCHEMA
    whole = _flatten(meta) if draft is Draft202012Validator else meta
    return _bound(draft)(whole, registry=Registry())


def _flatten(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a meta-schema with its vocabularies inlined, since following them is slow."""
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for part in (meta, *(DRAFTS.contents(_META + one["$ref"]) for one in meta["allOf"])):
        properties |= part["properties"]
        definitions |= part.get("$defs", {})
    flat = {"type": meta["type"], "properties": properties, "$defs": definitions}
    whole: dict[str, Any] = _to_own_references(flat)
    return whole


def _to_own_references(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_own_references(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if isinstance(value.get("$dynamicRef"), str):
        return {"$ref": "#"}
    if str(value.get("$ref", "#")).startswith("meta/"):  # a definition of another vocabulary
        return {"$ref": "#" + value["$ref"].partition("#")[2]}
    return {key: _to_own_references(one) for key, one in value.items()}


def count_members(value: Any, limit: int) -> int:
    """Count the members of a JSON value's lists and objects, up to a limit."""
    count, left = 0, [value]
    while left and count <= limit:
        one = left.pop()
        if isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list):
            left += one
        else:
            continue
        count += len(one)
    return count


def _count(check: Any) -> Any:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        _budget.steps += 1
        if _budget.steps > _budget.max_steps:
            raise _TooMuchError
        if _budget.steps % _STEPS_AT_ONCE == 0:
            let_others_run()
        if instance is None and schema.get("nullable") is True:  # OpenAPI 3.0
            return
        for error in check(validator, value, instance, schema) or ():
            _budget.steps += len(error.message) // _CHARS_PER_STEP
            error.message = _cut(error.message)
            yield error

    return counted


def _cut(message: str) -> str:
    """Truncate a long message. The reason is at its end."""
    half = _MAX_FAULT_CHARS // 2
    return message if len(message) <= 2 * half else f"{message[:half]}…{message[-half:]}"


def _check_pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, str) or len(str(pattern)) > _MAX_PATTERN_CHARS:
        return
    _budget.steps += _MAX_STEPS // 20  # a schema may have many patterns, each up to its time limit
    try:
        found = regex.search(str(pattern), instance, timeout=_PATTERN_S)
    except (TimeoutError, regex.error):
        return  # the tool validates it itself
    if found is None:
        yield ValidationError(f"{instance[:100]!r} does not match {pattern!r}")


#: These two checks are the same in every draft.
_ALIKE = Draft202012Validator.VALIDATORS


def _check_others(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
    # With patternProperties the set of additional properties depends on unlimited patterns.
    if "patternProperties" not in schema:
        return _ALIKE["additionalProperties"](validator, value, instance, schema)
    return None


def _check_unique(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
    # jsonschema compares all pairs if the elements cannot be sorted.
    if isinstance(instance, list) and len(instance) <= 200:
        return _ALIKE["uniqueItems"](validator, value, instance, schema)
    return None


_BOUNDED = {
    "pattern": _check_pattern,
    "additionalProperties": _check_others,
    "uniqueItems": _check_unique,
    # These keywords evaluate patterns and references without a limit.
    **dict.fromkeys(
        ("patternProperties", "unevaluatedProperties", "unevaluatedItems"), lambda *_: None
    ),
}


@cache
def _bound(draft: Any) -> Any:
    """Return a draft's validator with this module's limits."""
    bounded = {name: check for name, check in _BOUNDED.items() if name in draft.VALIDATORS}
    checks = {**draft.VALIDATORS, **bounded}
    made = extend(draft, {name: _count(check) for name, check in checks.items()})
    # A part of the schema may select another draft with "$schema", and jsonschema would use that
    # draft without limits.
    made.evolve = attrs.evolve
    return made
