"""Sphinx directive ``route-list``: all routes, from the OpenAPI document.

It creates an application in a temporary folder and requests its document. Each tag becomes a
section, each operation a subsection.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from docutils import nodes
from markdown_text import to_rst
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from astrbot_api import AstrBotAPI, create_app
from astrbot_api.errors import STATUS_OF_CODE

_BASE = "/api/v1"
_URL = "http://127.0.0.1:6185"
_METHODS = ("get", "post", "put", "patch", "delete")
_SCOPE = re.compile(r"\n*The key needs the scope `([a-z:]+)`\.")


class RouteList(SphinxDirective):
    """Shows all operations of the document."""

    def run(self) -> list[nodes.Node]:
        writer = _Writer(_fetch_document())
        text = "\n".join(writer.write_all())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _fetch_document() -> dict[str, Any]:
    logging.disable(logging.INFO)  # otherwise it logs the new database
    with tempfile.TemporaryDirectory() as folder:
        api = AstrBotAPI(find_plugins=False)
        app = create_app(
            {"ASTRBOT_DATA_DIR": folder, "ASTRBOT_ADMIN_PASSWORD": "of-no-use"}, api=api
        )
        try:
            document: dict[str, Any] = app.test_client().get(f"{_BASE}/openapi.json").get_json()
        finally:
            app.extensions["astrbot_api"].close()
            logging.disable(logging.NOTSET)
    return document


class _Writer:
    """Writes a document as reStructuredText.

    :param document: The OpenAPI document.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def write_all(self) -> Iterator[str]:
        for tag in self._document["tags"]:
            yield from (tag["name"], "-" * len(tag["name"]), "", to_rst(tag["description"]), "")
            for path, item in self._document["paths"].items():
                for method in _METHODS:
                    operation = item.get(method)
                    if operation and operation["tags"][0] == tag["name"]:
                        shared = item.get("parameters", [])
                        yield from self._write_operation(method, path, operation, shared)

    def _write_operation(
        self, method: str, path: str, operation: dict[str, Any], shared: list[Any]
    ) -> Iterator[str]:
        heading = f"{method.upper()} {path.removeprefix(_BASE)}"
        yield from (f".. _route-{operation['operationId']}:", "", heading, "~" * len(heading), "")
        yield from (to_rst(operation["summary"]), "")
        description = operation.get("description", "")
        scope = _SCOPE.search(description)
        said = to_rst(_SCOPE.sub("", description)).strip()
        yield from (said, "") if said else ()
        if operation.get("security") == []:
            yield "*No key.*"
        else:
            yield f"*Scope:* ``{scope.group(1)}``" if scope else "*Scope:* any key."
        yield ""
        parameters = [self._resolve(one) for one in (*shared, *operation.get("parameters", ()))]
        rows = [_format_parameter(one) for one in parameters]
        yield from _table(("Parameter", "Type", "Meaning"), rows)
        body = self._find_body(operation)
        rows = list(self._format_fields(body)) if body else []
        yield from _table(("Field", "Type", "Meaning"), rows)
        if "101" not in operation["responses"]:  # curl does not support WebSockets
            curl = self._make_curl(method, path, parameters, operation)
            yield from (".. code-block:: sh", "", *(f"   {line}" for line in curl), "")
        yield from self._write_answers(operation)

    def _write_answers(self, operation: dict[str, Any]) -> Iterator[str]:
        codes: list[str] = []
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                codes += re.findall(r"`([a-z_]+)`", response["description"])
                continue
            yield from (f"**{status}:** {to_rst(response['description'])}", "")
            schema = response.get("content", {}).get("application/json", {}).get("schema")
            if schema is None:
                continue
            example = json.dumps(self._make_example(schema), ensure_ascii=False, indent=2)
            yield from (".. code-block:: json", "")
            yield from (f"   {line}" for line in example.splitlines())
            yield ""
            data = self._resolve(self._resolve(schema).get("properties", {}).get("data", schema))
            yield from _table(("Answer", "Type", "Meaning"), list(self._format_fields(data)))
        told = [f":ref:`{code} <error-{code}>`" for code in codes if code in STATUS_OF_CODE]
        yield from (f"*Errors:* {', '.join(told)}", "") if told else ()

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found: Any = self._document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = {**found, **{key: value for key, value in node.items() if key != "$ref"}}
        return node

    def _find_body(self, operation: dict[str, Any]) -> dict[str, Any] | None:
        content = operation.get("requestBody", {}).get("content", {})
        schema = next((one["schema"] for one in content.values() if "schema" in one), None)
        return self._resolve(schema) if schema else None

    def _format_fields(self, schema: dict[str, Any], before: str = "") -> Iterator[tuple[str, ...]]:
        """Yield name, type and meaning of each field. Nested fields have dotted names."""
        required = schema.get("required", ())
        for name, given in schema.get("properties", {}).items():
            node = self._resolve(given)
            meaning = to_rst(node.get("description", ""))
            must = " **Required.**" if name in required and "readOnly" not in node else ""
            yield f"{before}{name}", _format_type(node), meaning + must
            items = self._resolve(node.get("items", {}))
            if before.count(".") < 2:
                inner = items if "properties" in items else node
                yield from self._format_fields(inner, f"{before}{name}{'[]' if items else ''}.")

    def _make_example(self, schema: dict[str, Any], depth: int = 0) -> Any:
        node = self._resolve(schema)
        if "example" in node:
            return node["example"]
        if "properties" in node and depth < 8:
            return {
                name: self._make_example(one, depth + 1) for name, one in node["properties"].items()
            }
        if "items" in node:
            return [self._make_example(node["items"], depth + 1)]
        for key in ("examples", "enum"):
            if node.get(key):
                return node[key][0]
        return node.get("default")

    def _make_curl(
        self, method: str, path: str, parameters: list[dict[str, Any]], operation: dict[str, Any]
    ) -> Iterator[str]:
        query = []
        for one in parameters:
            value = str(one.get("example", one["schema"].get("example", "")))
            if one["in"] == "path":
                path = path.replace(f"{{{one['name']}}}", quote(value, safe=""))
            elif one["in"] == "query" and (one.get("required") or one["name"] == "username"):
                query.append(f"{one['name']}={quote(value, safe='')}")
        url = f"{_URL}{path}" + (f"?{'&'.join(query)}" if query else "")
        parts = [f"curl '{url}'" if query else f"curl {url}"]
        if "text/event-stream" in str(operation["responses"].get("200", "")):
            parts[0] = parts[0].replace("curl", "curl -N")
        if operation.get("security") != []:
            parts.append('-H "X-API-Key: $KEY"')
        content = operation.get("requestBody", {}).get("content", {})
        sent = "get" if method == "get" else "post" if content else ""
        if "multipart/form-data" in content:
            fields = self._resolve(content["multipart/form-data"]["schema"])["properties"]
            parts += [f"-F {name}={one.get('example', '@cat.png')}" for name, one in fields.items()]
        elif "application/json" in content:
            body = json.dumps(self._make_body(content["application/json"]), ensure_ascii=False)
            parts += ["-H 'Content-Type: application/json'", f"-d '{body}'"]
        if method != (sent or "get"):
            parts[0] = parts[0].replace("curl", f"curl -X {method.upper()}")
        yield from " \\\n  ".join(parts).splitlines()

    def _make_body(self, media: dict[str, Any]) -> Any:
        if "example" in media:
            return media["example"]
        schema = self._resolve(media["schema"])
        needed = set(schema.get("required", ())) | {"username"}
        return {
            name: self._make_example(one)
            for name, one in schema.get("properties", {}).items()
            if name in needed
        }


def _format_parameter(parameter: dict[str, Any]) -> tuple[str, str, str]:
    must = " **Required.**" if parameter.get("required") else ""
    meaning = to_rst(parameter.get("description", ""))
    return (
        f"{parameter['name']}",
        f"{_format_type(parameter['schema'])} ({parameter['in']})",
        meaning + must,
    )


def _format_type(schema: dict[str, Any]) -> str:
    """Return a short name of a schema's type and limits."""
    if "enum" in schema:
        return ", ".join(f"``{json.dumps(one)}``" for one in schema["enum"])
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    for key in ("oneOf", "anyOf"):
        kinds += [_format_type(one) for one in schema.get(key, ())]
    told = " or ".join(dict.fromkeys(kinds)) or "any"
    default = schema.get("default")
    return told if default in (None, "") else f"{told}, ``{json.dumps(default)}``"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 28 22 50", "")
    for first, *others in (heads, *rows):
        yield f"   * - {first if first in heads else f'``{first}``'}"
        yield from (f"     - {' '.join(other.split())}" for other in others)
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("route-list", RouteList)
    return {"parallel_read_safe": True}
