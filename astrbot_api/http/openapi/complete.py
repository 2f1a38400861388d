"""Complete the OpenAPI document: examples, limits, scopes and removal of unused parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...config.settings import Settings
from ...db.keys import INCLUDED_IN
from ...error_codes import ERROR_CODES

_COMPONENT = "#/components/"

_ERROR = f"{_COMPONENT}schemas/Error"

#: Kinds of components that are removed if nothing refers to them.
_PRUNED = ("schemas", "responses", "examples", "parameters", "headers", "requestBodies")


def complete_document(
    document: dict[str, Any], settings: Settings, scopes: Mapping[str, str | None]
) -> dict[str, Any]:
    """Add examples, limits and scopes, and remove unused components.

    :param document: The document built from the routes; changed in place.
    :param scopes: Tag -> scope that a key needs for its routes.
    :returns: The document, with its members in reading order.
    """
    components = document["components"]
    for operation in iter_operations(document):
        _complete_responses(operation, components, settings)
        _append_scope(operation, scopes)
        _describe_body_limit(operation, settings)
    for holder in (*document["paths"].values(), *iter_operations(document)):
        for parameter in holder.get("parameters", ()):
            _reduce_types(parameter["schema"])
    for schema in components["schemas"].values():
        # marshmallow's default for requests; clients must accept new response fields.
        schema.pop("additionalProperties", None)
    _prune(document)
    order = ("openapi", "info", "tags", "paths", "components", "security")
    return {**{key: document[key] for key in order if key in document}, **document}


def iter_operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every operation of a document."""
    for item in document["paths"].values():
        for method, operation in item.items():
            if method in ("get", "put", "post", "delete", "options", "head", "patch", "trace"):
                yield operation


def _complete_responses(
    operation: dict[str, Any], components: dict[str, Any], settings: Settings
) -> None:
    """Sort the responses and add an example for each error code."""
    responses = operation["responses"]
    # Added by flask-smorest. All our errors are listed by status.
    responses.pop("default", None)
    for status, response in responses.items():
        if int(status) < 400:
            continue
        if response["content"]["application/json"]["schema"].get("$ref") != _ERROR:
            continue  # another error format
        codes = re.findall(r"`([a-z_]+)`", response["description"])
        examples = components.setdefault("examples", {})
        for code in codes:
            examples.setdefault(code, _build_example(code, settings))
        references = {code: {"$ref": f"{_COMPONENT}examples/{code}"} for code in codes}
        response["content"]["application/json"]["examples"] = references
    operation["responses"] = dict(sorted(responses.items()))


def _build_example(code: str, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI Example Object of an error code.

    :param settings: The limits that the message contains.
    """
    facts = ERROR_CODES[code]
    envelope = {
        "status": "error",
        "message": facts.example.format_map(vars(settings)),
        "data": None,
        "code": code,
        "request_id": "6d0f1a1f8b7e4a43a3c1d2a9",
    }
    return {"summary": facts.meaning, "description": facts.remedy, "value": envelope}


def _append_scope(operation: dict[str, Any], scopes: Mapping[str, str | None]) -> None:
    """Append the required scope to the description."""
    scope = scopes.get(operation["tags"][0])
    if scope is not None and "security" not in operation:
        other = f" or `{INCLUDED_IN[scope]}`" if scope in INCLUDED_IN else ""
        needed = f"The key needs the scope `{scope}`{other}."
        operation["description"] = "\n\n".join(filter(None, (operation.get("description"), needed)))


def _describe_body_limit(operation: dict[str, Any], settings: Settings) -> None:
    body = operation.get("requestBody")
    if body is None or body.get("description"):
        return
    if "multipart/form-data" in body["content"]:
        body["description"] = f"A file of at most {settings.max_file_bytes} bytes."
    else:
        body["description"] = f"At most {settings.max_json_bytes} bytes of JSON."


def _reduce_types(schema: dict[str, Any]) -> None:
    """Reduce the types of a parameter to one, because URLs contain only text and no null."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        schema["type"] = "string" if "string" in kinds else kinds[0]
        if schema.get("default", "") is None:
            del schema["default"]


def _prune(document: dict[str, Any]) -> None:
    used: set[tuple[str, str]] = set()
    _collect(document["paths"], document, used)
    components = document["components"]
    for kind in _PRUNED:
        found = components.pop(kind, {})
        kept = {name: value for name, value in found.items() if (kind, name) in used}
        if kept:
            components[kind] = kept


def _collect(node: Any, document: dict[str, Any], found: set[tuple[str, str]]) -> None:
    """Add the kind and name of every component that a node refers to, recursively."""
    if isinstance(node, list):
        for item in node:
            _collect(item, document, found)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith(_COMPONENT):
            kind, _, name = reference.removeprefix(_COMPONENT).partition("/")
            if (kind, name) not in found:
                found.add((kind, name))
                _collect(document["components"][kind][name], document, found)
        for value in node.values():
            _collect(value, document, found)
