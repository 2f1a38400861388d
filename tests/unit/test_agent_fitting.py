"""Adapted schemas of tools are valid for a strict endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from astrbot_api import Cancellation, Tool, ToolContext
from astrbot_api.agent.fitting import fit_schema
from astrbot_api.agent.toolbox import Toolbox

NESTED = {"type": "object", "properties": {"a": {"type": "array"}}}

ODD: dict[str, Any] = {
    "no schema": None,
    "true": True,
    "false": False,
    "a text": "no schema",
    "a list": [],
    "empty": {},
    "no properties": {"type": "object"},
    "null properties": {"type": "object", "properties": None, "required": None},
    "a list of properties": {"type": "object", "properties": ["a"]},
    "no type": {"properties": {"a": {"type": "string"}}},
    "a type that is a number": {"type": 7, "properties": {"a": {"type": "text"}}},
    "not an object": {"type": "string"},
    "no items": {"type": "object", "properties": {"ids": {"type": "array"}}},
    "items true": {"type": "object", "properties": {"ids": {"type": "array", "items": True}}},
    "tuple": {"properties": {"xy": {"items": [{"type": "number"}, {"type": "array"}]}}},
    "prefix items": {"properties": {"xy": {"type": "array", "prefixItems": [NESTED, {}]}}},
    "type lists": {"type": ["object", "null"], "properties": {"a": {"type": ["array", "null"]}}},
    "boolean properties": {"type": "object", "properties": {"a": True, "b": False}},
    "ref at the root": {"$ref": "#/definitions/In", "definitions": {"In": NESTED}},
    "ref of a ref": {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": NESTED}},
    "ref to itself": {"$ref": "#"},
    "ref in a circle": {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
    "ref to nothing": {"properties": {"a": {"$ref": "#/$defs/none"}}},
    "ref to an odd index": {"anyOf": [{"$ref": "#/anyOf/²"}, {"$ref": f"#/anyOf/{'9' * 5000}"}]},
    "ref elsewhere": {"properties": {"a": {"$ref": "http://127.0.0.1/x.json"}}},
    "anyOf": {"anyOf": [{"properties": {"a": {"type": "array"}}}, {"type": "null"}]},
    "oneOf": {"oneOf": [NESTED, {"required": ["b"], "properties": {"b": {}}}]},
    "allOf": {"allOf": [NESTED, {"properties": {"b": {"type": "string"}}, "required": ["b"]}]},
    "anyOf that is no list": {"anyOf": None, "oneOf": {}, "allOf": "x"},
    "not": {"type": "object", "properties": {"a": {"not": {}}}, "not": {"required": ["a"]}},
    "enum": {"enum": [{}], "const": {}},
    "draft 03": {"properties": {"a": {"type": "string", "required": True}}},
    "draft 04": {"properties": {"n": {"minimum": 0, "exclusiveMinimum": True, "type": "number"}}},
    "odd words": {"properties": {"a": {"type": "string", "format": "color", "pattern": "(?<=a)b"}}},
    "a format that is no text": {"properties": {"a": {"type": "string", "format": ["email"]}}},
    "a pattern that does not compile": {"properties": {"a": {"type": "string", "pattern": "(["}}},
    "counts that are none": {"properties": {"a": {"type": "string", "minLength": "1"}}},
    "required that is a text": {"properties": {"a": {}}, "required": "a"},
    "required nobody has": {"properties": {"a": {}}, "required": ["b", 7]},
    "types of another case": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
}

_WORDS = ["type", "properties", "items", "required", "anyOf", "oneOf", "allOf", "$ref", "enum"]
_WORDS += ["const", "not", "prefixItems", "additionalProperties", "minimum", "exclusiveMinimum"]
_WORDS += ["pattern", "$defs", "a"]

_TOP = ("oneOf", "anyOf", "allOf", "enum", "not", "$ref")


def find_fault(schema: Any, at_root: bool = True) -> str:
    """Return the fault of a schema for a strict endpoint, or an empty text."""
    if not isinstance(schema, dict):
        return f"{schema!r} is no object"
    if at_root and (schema.get("type") != "object" or any(key in schema for key in _TOP)):
        return f"the root has {sorted(schema)}"
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), dict):
        return "no properties"
    if schema.get("type") == "array" and "items" not in schema:
        return "no items"
    if not isinstance(schema.get("type", ""), str) or "$ref" in schema:
        return f"a type list or a reference: {schema}"
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    parts += [schema["items"]] if "items" in schema else []
    return next(filter(None, (find_fault(one, False) for one in parts)), "")


def run(schema: Any, arguments: Any) -> str:
    """Call a tool with this schema, which returns its arguments as JSON."""
    tool = Tool("x", "x", lambda values, context: dict(values), schema)
    context = ToolContext("alice", "s", "default", Cancellation())
    return Toolbox([tool]).run("x", json.dumps(arguments), context)


@pytest.mark.parametrize("name", ODD)
def test_any_schema_becomes_one_that_a_strict_endpoint_takes(name: str) -> None:
    fitted = fit_schema(ODD[name])
    assert find_fault(fitted) == ""
    Draft202012Validator.check_schema(fitted)
    assert run(ODD[name], {"z": 1}).startswith(("{", "error: bad arguments"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({}),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(_WORDS) | st.text(max_size=2),
                inner | st.sampled_from(["object", "array", "string", "#", "#/$defs/a", "#/a"]),
                max_size=4,
            )
        ),
        max_leaves=25,
    )
)
@settings(max_examples=200)
@example({"$ref": "#/a", "a": None})
@example({"$ref": "#/a", "a": {"type": {}, "pattern": 1}})
def test_whatever_a_server_lists_is_fit_for_the_wire(schema: Any) -> None:
    fitted = fit_schema(schema)
    assert find_fault(fitted) == ""
    Draft202012Validator.check_schema(fitted)
    assert isinstance(run(schema, {"a": "1"}), str)


def test_what_endpoints_take_stays_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where.", "minLength": 1},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "units": {"type": "string", "enum": ["c", "f"]},
            "at": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
            "more": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert fit_schema(schema) == schema


STRING, INTEGER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "fitted"),
    [
        ({"$ref": "#/$defs/Word"}, {"type": "string", "minLength": 2}),
        ({"$ref": "#/$defs/List/0"}, INTEGER),
        ({"$ref": "#/$defs/List/1"}, {}),
        (
            {"allOf": [{"properties": {"a": STRING}, "required": ["a"]},
                       {"properties": {"b": INTEGER}, "required": ["b"]}]},
            {"type": "object", "properties": {"a": STRING, "b": INTEGER}, "required": ["a", "b"]},
        ),
        (
            {"type": "object", "properties": {"a": {**STRING, "required": True}}},
            {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
        ),
        (
            {"type": "number", "minimum": 1, "exclusiveMinimum": True, "multipleOf": 0},
            {"type": "number", "exclusiveMinimum": 1},
        ),
        ({**INTEGER, "multipleOf": 5, "maximum": True}, {**INTEGER, "multipleOf": 5}),
        (
            {**STRING, "format": "date", "pattern": "^a+$"},
            {**STRING, "format": "date", "pattern": "^a+$"},
        ),
        ({**STRING, "format": "color", "pattern": "(?=a)"}, STRING),
        ({**STRING, "pattern": "(a+)+"}, STRING),
        (
            {"type": "array", "items": [STRING, STRING], "additionalItems": INTEGER},
            {"type": "array", "items": {"anyOf": [STRING, INTEGER]}},
        ),
        ({"prefixItems": [STRING]}, {"type": "array", "items": STRING}),
        (
            {"items": STRING, "minItems": True, "maxItems": 3},
            {"type": "array", "items": STRING, "maxItems": 3},
        ),
        ({"enum": [1, 2]}, {**INTEGER, "enum": [1, 2]}),
        ({"enum": [1, "a"]}, {"enum": [1, "a"]}),
        ({"const": 5}, {**INTEGER, "enum": [5]}),
        (
            {"type": ["string", "integer", "null"], "enum": ["a", None], "description": "d"},
            {"description": "d", "anyOf": [{**STRING, "enum": ["a"]},
                                           {"type": "null", "enum": [None]}]},
        ),
        ({"anyOf": [STRING], "description": "d"}, {**STRING, "description": "d"}),
        ({"oneOf": [STRING, {"type": "null"}]}, {"anyOf": [STRING, {"type": "null"}]}),
    ],
    ids=str,
)  # fmt: skip
def test_what_endpoints_know_is_kept(schema: dict[str, Any], fitted: dict[str, Any]) -> None:
    definitions = {"Word": {**STRING, "minLength": 2}, "List": [INTEGER]}
    root = {"type": "object", "properties": {"p": schema}, "$defs": definitions}
    assert fit_schema(root)["properties"]["p"] == fitted


def test_alternatives_at_the_root_become_properties() -> None:
    fitted = fit_schema(ODD["oneOf"])
    assert set(fitted["properties"]) == {"a", "b"}
    assert "required" not in fitted


def test_a_schema_that_grows_without_end_is_cut() -> None:
    defs: dict[str, Any] = {"d0": {"type": "string"}}
    for number in range(1, 40):
        inner = {"$ref": f"#/$defs/d{number - 1}"}
        defs[f"d{number}"] = {"type": "object", "properties": {"l": inner, "r": inner}}
    fitted = fit_schema({"$ref": "#/$defs/d39", "$defs": defs})
    assert len(json.dumps(fitted)) < 1_000_000
    assert find_fault(fitted) == ""


@pytest.mark.parametrize(
    ("schema", "given", "taken"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
        ({"type": "object"}, '{"b": 1}', {"b": 1}),
        ({"type": "integer"}, "5", 5),
        ({"type": "number"}, " 2.5 ", 2.5),
        ({"type": "boolean"}, "True", True),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": "string"}, 12, "12"),
        ({"type": "string"}, "[1]", "[1]"),
        ({"type": ["string", "array"]}, "[1]", "[1]"),
        ({}, "5", "5"),
    ],
)
def test_what_came_as_text_is_read_as_the_schema_means_it(
    schema: Any, given: Any, taken: Any
) -> None:
    whole = {"type": "object", "properties": {"a": schema}}
    assert json.loads(run(whole, {"a": given})) == {"a": taken}


def test_a_whole_number_has_no_point_where_the_schema_wants_an_integer() -> None:
    properties = {"a": {"type": ["integer", "null"]}, "b": {"type": "number"}}
    schema = {"type": "object", "properties": properties}
    assert run(schema, {"a": 5.0, "b": 5.0}) == '{"a":5,"b":5.0}'
    assert run(schema, {"a": -(2.0**62)}) == f'{{"a":{-(2**62)}}}'
    # Longer than 64 bits. Versions of orjson differ in how they write the exponent.
    assert run(schema, {"a": 10**21}) in ('{"a":1e+21}', '{"a":1e21}')


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["string"]},
        {"$ref": "#/$defs/text"},
        {"allOf": [{"$ref": "#/$defs/text"}]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "string", "enum": ["b", None]},
    ],
    ids=str,
)
def test_null_is_an_argument_that_openapi_calls_nullable(schema: dict[str, Any]) -> None:
    nullable = {**schema, "nullable": True}
    inner = {"type": "object", "properties": {"c": nullable}, "nullable": True}
    whole = {
        "type": "object",
        "properties": {"a": nullable, "inner": inner, "same": {"$ref": "#/properties/inner"}},
        "required": ["a"],
        "$defs": {"text": {"type": "string"}},
    }
    for text in (None, "b"):
        values = {"a": text, "inner": {"c": text}, "same": None}
        assert json.loads(run(whole, values)) == values
    assert run(whole, {"a": []}).startswith("error: bad arguments: a: ")


def test_null_is_an_absent_argument_unless_the_schema_has_it() -> None:
    flag = {"type": "boolean", "default": False}
    properties = {"a": {"type": "integer"}, "b": {"type": ["string", "null"]}, "c": {}, "d": flag}
    schema = {"type": "object", "properties": properties, "required": ["d"]}
    given = dict.fromkeys([*properties, "e"])
    assert json.loads(run(schema, given)) == {"b": None, "c": None, "d": False, "e": None}


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        ({"type": "array"}, "1, 2"),
        ({"type": "integer"}, "2.5"),
        ({"type": "integer"}, "five"),
        ({"type": "boolean"}, "1"),
        ({"type": "string"}, True),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(schema: Any, given: Any) -> None:
    whole = {"type": "object", "properties": {"a": schema}}
    assert run(whole, {"a": given}).startswith("error: bad arguments: a: ")


def test_a_required_argument_that_is_missing_gets_its_default() -> None:
    flag = {"type": "boolean", "default": False}
    inner = {"type": "object", "properties": {"x": flag}, "required": ["x"]}
    properties = {"a": flag, "b": inner, "c": {"default": 5}, "d": {"type": "string"}, "e": flag}
    schema = {"type": "object", "properties": properties, "required": ["a", "b", "d", "e"]}
    taken = {"a": False, "b": {"x": False}, "d": "e", "e": True}
    assert json.loads(run(schema, {"b": {}, "d": "e", "e": True})) == taken
    assert run(schema, {"a": True, "b": {}}) == "error: bad arguments: 'd' is a required property"


def test_draft_04_is_checked_as_draft_04() -> None:
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", **ODD["draft 04"]}
    assert run(schema, {"n": 0}).startswith("error: bad arguments: n: ")
    assert run(schema, {"n": 1}) == '{"n":1}'
    assert fit_schema(schema)["properties"]["n"] == {"type": "number", "exclusiveMinimum": 0}


def test_a_reference_that_leads_nowhere_costs_the_check_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run(ODD["ref to nothing"], {"a": 1}) == '{"a":1}'
    assert "the arguments of tool x are not fully checked" in caplog.text


@pytest.mark.parametrize("keyword", ["properties", "allOf"])
def test_a_large_schema_lets_others_run(keyword: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr("astrbot_api.agent.fitting.let_others_run", lambda: runs.append(None))
    parts = {f"p{at}": {"properties": {f"q{at}": {}}} for at in range(1000)}
    fit_schema({keyword: parts if keyword == "properties" else list(parts.values())})
    assert len(runs) >= 50
